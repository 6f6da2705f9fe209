"""Simulation: fleets whose truth is known, from formulas of their own."""
