"""How fast mediasql is, against what people write without it and against the limit: `python -m benchmarks`.

Each figure is the median of several runs. Whatever is compared runs in turn, each time in a fresh process with empty
caches, against the same nginx on this machine. Requests and bytes come from the log of that nginx; every answer is
compared with what Pillow and PyAV say about the same files.
"""
