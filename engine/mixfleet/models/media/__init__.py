"""Media: what they bring, week by week and draw by draw, under any plan. The curves are those of the kernels.

Everything here is on the model's scale of media and in KPI, for many units at once, and runs on the device in the
precision of its arguments.
"""

from mixfleet.models.media.registration import register_adstock, register_saturation
from mixfleet.models.media.response import (
    Curves,
    by_form,
    held,
    in_chunks,
    native_curves,
    native_forms,
    saturated,
    steady,
    window,
    windows,
)
from mixfleet.models.media.term import FormGroup, MediaTerm, joined, media_term

__all__ = [
    "Curves",
    "FormGroup",
    "MediaTerm",
    "by_form",
    "held",
    "in_chunks",
    "joined",
    "media_term",
    "native_curves",
    "native_forms",
    "register_adstock",
    "register_saturation",
    "saturated",
    "steady",
    "window",
    "windows",
]
