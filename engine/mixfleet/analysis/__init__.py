"""Analysis: from the draws of a finished run to what media brought."""
