"""Budget: plans that move money between channels and units."""
