"""Formats: how files write tables, text, numbers and dates."""
