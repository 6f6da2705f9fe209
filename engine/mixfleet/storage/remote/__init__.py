"""Runs in an object store: a local folder is where work is done, the store is what counts."""
