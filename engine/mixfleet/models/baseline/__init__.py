"""Baseline: the terms of the linear block - what sales would be without media."""

from mixfleet.models.baseline.calendar import Calendar
from mixfleet.models.baseline.column_laws import (
    ColumnLaw,
    by_column,
    column_laws,
    column_priors,
    learned_scales,
    sampled_blocks,
)
from mixfleet.models.baseline.dates import fitting, with_dates
from mixfleet.models.baseline.linear_block import (
    REGISTERED,
    BaselineTerm,
    column_components,
    column_kinds,
    column_names,
    component_rows,
    components,
    design,
    furthest,
    register,
    terms_of,
)

__all__ = [
    "REGISTERED",
    "BaselineTerm",
    "Calendar",
    "ColumnLaw",
    "by_column",
    "column_components",
    "column_kinds",
    "column_laws",
    "column_names",
    "column_priors",
    "component_rows",
    "components",
    "design",
    "fitting",
    "furthest",
    "learned_scales",
    "register",
    "sampled_blocks",
    "terms_of",
    "with_dates",
]
