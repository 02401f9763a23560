"""The one place that speaks HTTP: an engine drives jobs, and a transport below it makes their requests.

A job is a sans-IO generator (`jobs.py`). It yields what it needs, an `Exchange`, a `Delay`, a place at a host, and is
sent the outcome. The engine runs on a thread of its own (`curl.py`), or on the event loop (`aiohttp.py`) where libcurl
is not to be had; both behave alike and pass the same tests.
"""
