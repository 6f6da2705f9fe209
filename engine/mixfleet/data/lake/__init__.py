"""Lake: one table made of several sources by a query, with a record of exactly what was read."""
