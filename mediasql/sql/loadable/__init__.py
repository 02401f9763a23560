"""mediasql in any program that uses SQLite: a shared library for its `load_extension`.

`extension.c` and `tables.c` are what SQLite calls, `start.c` finds or starts Python; `binding` gives the connection the
registry, and `host` presents to the rest of the package what APSW would. `build` compiles it, `loading` finds and loads
it.
"""
