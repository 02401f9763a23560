"""The built-in SQL functions, one module for each family."""
