"""Storage: the run folder, written atomically and read with its digests checked."""
