"""Hierarchy: units that share hyperparameters, sampled as one joint posterior."""
