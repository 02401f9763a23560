"""mediasql in other people's tools. Each module needs the tool that it serves, and is imported by it."""
