"""Measures: what the prior of a channel's strength is on, such as its ROI."""

import datetime
from dataclasses import dataclass
from typing import Annotated, Any

from mixfleet.config import schema
from mixfleet.config.schema import FrozenMapping, Label, OneOf, Reads
from mixfleet.errors import ConfigError

__all__ = ["MEASURES", "OF_SPEND", "On", "read_on"]

MEASURES: dict[str, str] = {
    "effect": "KPI of a fully saturated week, in shares of the unit's highest KPI",
    "contribution": "share of the unit's KPI over the fitted weeks",
    "media_share": "share of the unit's KPI that media would bring if all spend did as well as the channel's",
    "roi": "value per unit of spend over the fitted weeks",
    "mroi": "value per unit of spend at the margin: of one more per cent of the channel's media, over the fitted weeks",
    "cost_per_kpi": "spend per KPI that it brings over the fitted weeks",
}
"""By name, which is also the name of the parameter whose prior it is."""

OF_SPEND = ("roi", "mroi", "cost_per_kpi")
"""Measures that only a channel with spend has."""


def _read_day(value: Any, key: str) -> str | None:
    """A day as text; YAML takes 2024-01-31 for a date."""
    text = value.isoformat() if isinstance(value, datetime.date) else value
    try:
        return text if text is None else datetime.date.fromisoformat(str(text)).isoformat()
    except ValueError as error:
        raise ConfigError(f"must be a day such as 2024-01-31, is {value!r}", key=key) from error


Day = Annotated[str | None, Reads(_read_day)]

_Measure = Annotated[str, OneOf(MEASURES)]


@dataclass(frozen=True, kw_only=True)
class On:
    """What the priors of channels' strengths are on: one of `MEASURES` for paid and for organic channels.

    The usual one is `media_share`: media then bring about the same before any data, however many channels there are,
    and a channel as much as its part of the spend. An `effect` has the same prior in a channel of any spend.

    With `model.link=log` all are of the KPI's logarithm: a `media_share` of 0.3 means that media add 0.3 to it in the
    mean period, without which 1 - exp(-0.3) = 26 % of the KPI would be missing. It so never is more than all of it.
    """

    media: _Measure = "media_share"

    organic: _Measure | None = None
    """Unset: as for media, or `contribution` where that is of spend. Paid channels that a unit spends nothing on in
    the fitted weeks count as organic there."""

    channels: FrozenMapping[Label, _Measure] = FrozenMapping()
    """Channels with a measure of their own."""

    start: Day = None
    """First day of the media that priors on returns and costs are about, such as those of a test or of the last year;
    unset: the first fitted week. What they bring is told with its carry-over, against none of them."""

    end: Day = None
    """Last day of them; unset: the last fitted week."""

    def __post_init__(self) -> None:
        schema.settle(self, key="prior.on")
        if self.start and self.end and self.end < self.start:
            raise ConfigError(f"{self.end} lies before the start, {self.start}", key="prior.on.end")
        if self.organic in OF_SPEND:
            raise ConfigError(f"organic channels have no spend, so no {self.organic}", key="prior.on.organic")

    def measure(self, channel: str, *, spend: bool) -> str:
        """The measure of a channel, with spend or without."""
        asked = self.channels.get(channel, self.media if spend or self.organic is None else self.organic)
        if spend or asked not in OF_SPEND:
            return asked
        return self.organic or "contribution"

    @property
    def dated(self) -> bool:
        """Whether returns and costs are about some days only."""
        return self.start is not None or self.end is not None

    @property
    def of_changes(self) -> bool:
        """Whether some prior is on what a change of media brings, rather than on all that a channel does."""
        return "mroi" in self.possible or (self.dated and any(name in OF_SPEND for name in self.possible))

    @property
    def possible(self) -> tuple[str, ...]:
        """Measures that some channel of some unit may have, the media's first."""
        asked = (self.media, self.organic or self.measure("", spend=False), *self.channels.values())
        return tuple(dict.fromkeys(asked))


def read_on(value: Any, key: str) -> Any:
    """`roi` for `{media: roi}`."""
    del key
    return {"media": value} if isinstance(value, str) else value
