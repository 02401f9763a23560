"""Real servers on free loopback ports, for the tests, the sample store and the benchmarks.

Each runs as a process of its own (`python -m tests.servers.s3 PORT` by hand) and each is started by one
function, a context manager that yields a `Server`: `tests.servers.s3.start()`.
"""
