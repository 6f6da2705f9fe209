"""What `mixfleet` does in a shell."""
