"""Command line: what `mixfleet` does in a shell."""
