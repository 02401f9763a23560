"""The built-in tables, one module each."""
