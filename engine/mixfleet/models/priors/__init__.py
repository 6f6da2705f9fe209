"""Priors: families as densities of unconstrained coordinates, and what they expect."""
