"""Request signing: pure functions of keys, a path and a clock. Nothing here does I/O or knows a provider."""
