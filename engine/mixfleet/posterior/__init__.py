"""Posterior: draws of a unit turned into numbers in original units."""
