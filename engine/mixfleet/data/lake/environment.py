"""Environment: secrets by the name of the variable that holds them, and messages without them."""

import os
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit

from mixfleet.config.lake import ENVIRONMENT
from mixfleet.errors import ConfigError

__all__ = ["Secrets"]

SHORTEST = 4
"""Characters of a password below which a message is not searched for it: it would stand in half of all words."""


class Secrets:
    """The secrets that one reading has used."""

    def __init__(self) -> None:
        """None yet."""
        self._words: dict[str, str] = {}

    def resolve(self, text: str, key: str) -> str:
        """The text, or what the environment variable holds that it names.

        Raises:
            ConfigError: There is no such variable, or it is empty.
        """
        if not text.startswith(ENVIRONMENT):
            return text
        name = text.removeprefix(ENVIRONMENT)
        value = os.environ.get(name, "")
        if not value:
            raise ConfigError(f"the environment variable {name} is not set", key=key)
        address = urlsplit(value) if "://" in value else None
        own = [value] if address is None else [value, address.password or "", unquote(address.password or "")]
        self._words |= {word: text for part in own for word in (part, quote(part, safe="")) if len(part) >= SHORTEST}
        return value

    def resolved(self, options: Mapping[str, str], key: str) -> dict[str, str]:
        """The same of every value."""
        return {name: self.resolve(value, f"{key}.{name}") for name, value in options.items()}

    def without(self, message: str) -> str:
        """The message with the names of variables in place of what they hold."""
        for word in sorted(self._words, key=len, reverse=True):
            message = message.replace(word, self._words[word])
        return message
