"""How long finished and abandoned runs are kept."""
