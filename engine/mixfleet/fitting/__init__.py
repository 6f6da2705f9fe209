"""Fitting: a panel driven through the samplers to a finished run."""
