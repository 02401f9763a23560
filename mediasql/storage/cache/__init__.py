"""What was learnt and read of remote objects, kept on disk for later statements, sessions and processes."""
