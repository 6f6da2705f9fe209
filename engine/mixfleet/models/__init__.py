"""Models: one unit's density, put together from media, baseline, priors and likelihood."""
