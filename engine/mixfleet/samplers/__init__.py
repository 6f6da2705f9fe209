"""Samplers: Markov transitions for many targets at once, one gradient per lane and tick."""
