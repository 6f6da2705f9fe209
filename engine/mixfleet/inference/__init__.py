"""Inference: the samplers of single units, and the judge of their draws."""
