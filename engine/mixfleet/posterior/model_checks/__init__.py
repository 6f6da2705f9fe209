"""Model checks: whether what a unit's model assumes agrees with the unit's data, beside whether its draws are good.

One module per kind of check; `judge.judge_model` runs all of them.
"""
