"""Evaluation: whether posteriors are what they claim, and forecasts what came."""
