"""Data: from any table to a checked, labelled panel of units."""
