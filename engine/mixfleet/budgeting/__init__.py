"""Plans that move money between channels and units."""
