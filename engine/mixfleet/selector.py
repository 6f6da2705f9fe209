"""Selector: which rows of a table somebody means, as column=label,column=label."""

from mixfleet.errors import ConfigError

__all__ = ["read_selector"]


def read_selector(text: str, *, key: str) -> dict[str, str]:
    """Column to label, from column=label,column=label.

    Raises:
        ConfigError: It is not of that form.
    """
    pairs = [part.split("=", 1) for part in text.split(",")]
    if any(len(pair) != 2 or not pair[0].strip() for pair in pairs):
        raise ConfigError(f"{text!r} is not of the form channel=tv,market=DE", key=key)
    return {column.strip(): label.strip() for column, label in pairs}
