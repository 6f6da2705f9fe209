"""Structures: several models of one unit, each fitted, averaged by how well they tell weeks that they have not seen.

`stacking` has the weights, `mixture` makes one result of the structures' draws.
"""
