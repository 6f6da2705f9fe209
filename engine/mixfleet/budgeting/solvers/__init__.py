"""Solvers: allocation problems in numbers, without labels."""
