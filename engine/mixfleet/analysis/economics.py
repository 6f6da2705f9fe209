"""What a KPI earns - a margin, or what a new customer brings over time -, what media are worth, and currencies."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float

from mixfleet.analysis.selectors import ALL, by_unit
from mixfleet.config import Business, Data
from mixfleet.errors import ConfigError
from mixfleet.posterior.statistics import statistics

__all__ = ["CUSTOMER_MEASURES", "PROFIT_MEASURES", "Economics", "EconomicsOptions", "unit_rates"]

PROFIT_MEASURES = {
    "profit": "margin of the incremental KPI less the spend",
    "marginal_profit": "what the last unit of spend earned beyond itself",
}
CUSTOMER_MEASURES = {
    "ltv_cac": "what the customers won will have brought, for their cost",
    "marginal_ltv_cac": "the same at the margin",
    "payback": "periods until the customers won have brought their cost; infinite if they never do",
    "marginal_payback": "the same at the margin",
}


class EconomicsOptions(TypedDict, total=False):
    """The fields of `Economics`, as keywords of a call."""

    margin: float | Mapping[str, float] | None
    customer_value: float | Mapping[str, float] | None
    retention: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Economics:
    """What a KPI earns.

    Money is one number for all units, or numbers by selector, of which the last that fits a unit holds:
    {"all": 0.4, "brand=acme,market=DE": 0.3}.
    """

    margin: float | Mapping[str, float] | None = None
    """Earned per KPI before media are paid; a share such as 0.4 where the KPI is revenue."""
    customer_value: float | Mapping[str, float] | None = None
    """What a customer who is there brings in a period, where the KPI is new customers."""
    retention: Sequence[float] = (1.0,)
    """Share of new customers who are there in each period, from the first. By default the value is that of a whole
    lifetime, which is the one period, so that payback is a share of it."""

    def __post_init__(self) -> None:
        """Refuse what no money or no share is."""
        for name in ("margin", "customer_value"):
            for selector, number in self._numbers(name).items():
                if not 0 < number < np.inf:
                    raise ConfigError(f"must be above zero, is {number} for {selector}", key=f"economics.{name}")
        if not len(self.retention) or not all(0 < share <= 1 for share in self.retention):
            raise ConfigError(f"must be shares above 0 and up to 1, is {self.retention}", key="economics.retention")

    @staticmethod
    def of(business: Business) -> "Economics":
        """What the settings of a run say."""
        margin, value = business.margin or None, business.customer_value or None
        return Economics(margin=margin, customer_value=value, retention=business.retention)

    @property
    def given(self) -> tuple[str, ...]:
        """What there is: margin, customer_value, both or none."""
        return tuple(name for name in ("margin", "customer_value") if getattr(self, name) is not None)

    def check_kpi(self, data: Data) -> None:
        """Refuse a customer's value where the KPI is money, of which nobody is a customer.

        Raises:
            ConfigError: The table's KPI is revenue.
        """
        if self.customer_value is not None and data.kpi_type == "revenue" and data.revenue_per_kpi is None:
            message = (
                f"is what one new customer brings, and the KPI {data.kpi!r} is revenue: give a margin instead, or fit "
                "new customers as the KPI with data.kpi_type=count"
            )
            raise ConfigError(message, key="economics.customer_value")

    @property
    def measures(self) -> dict[str, str]:
        """Names and meanings of what `measure` finds."""
        found = {"margin": PROFIT_MEASURES, "customer_value": CUSTOMER_MEASURES}
        return {name: text for one in self.given for name, text in found[one].items()}

    def per_kpi(
        self, keys: Sequence[str], units: Sequence[tuple[str, ...]], absent: Collection[tuple[str, ...]] = ()
    ) -> Float[np.ndarray, "unit given"]:
        """Money that one KPI earns in each unit, by what is given; a customer's over all periods.

        Args:
            keys: Key columns.
            units: Labels of the units.
            absent: Labels of others of the table, which a selector may name too.

        Raises:
            ConfigError: A selector cannot be read or fits no unit, or a unit fits none.
        """
        factors = {"margin": 1.0, "customer_value": float(np.sum(self.retention))}
        found = np.empty((len(units), len(self.given)))
        for i, name in enumerate(self.given):
            numbers, key = self._numbers(name), f"economics.{name}"
            found[:, i] = by_unit(numbers, keys, units, absent=absent, key=key) * factors[name]
        return found

    def measure(
        self,
        worth: Float[np.ndarray, "given window *channel draw"],
        marginal: Float[np.ndarray, "given window *channel draw"],
        spend: Float[np.ndarray, "window *channel"],
    ) -> dict[str, dict[str, Float[np.ndarray, "window *channel"]]]:
        """Statistics of each of `measures`, and `pays`, the probability that it earns more than it costs.

        Args:
            worth: Incremental KPI times `per_kpi`.
            marginal: Its change per 100 % more spend.
            spend: Money.
        """
        cost, found = spend[..., None], {}
        with np.errstate(divide="ignore", invalid="ignore"):
            for i, name in enumerate(self.given):
                for prefix, ratio in (("", worth[i] / cost), ("marginal_", marginal[i] / cost)):
                    pays = {"pays": np.where(spend > 0, np.mean(ratio > 1, axis=-1), np.nan)}
                    if name == "margin":
                        gain = ratio - 1 if prefix else worth[i] - cost
                        found[f"{prefix}profit"] = {**statistics(gain), **pays}
                        continue
                    ratios = statistics(ratio)
                    found[f"{prefix}ltv_cac"] = {**ratios, **pays}
                    found[f"{prefix}payback"] = {**self._payback(ratio, ratios), **pays}
        return {name: found[name] for name in self.measures}

    def _payback(self, ratio: np.ndarray, ratios: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        # The more customers bring for their cost the sooner they have paid it, so quantiles change places.
        turned = {f"q{100 - int(name[1:]):02d}": self._periods(ratios[name]) for name in ratios if name[0] == "q"}
        periods = self._periods(ratio)
        ever = np.all(np.isfinite(periods), axis=-1)
        moments = statistics(np.where(ever[..., None], periods, np.nan))
        never = np.any(np.isinf(periods), axis=-1)
        return {"mean": np.where(never, np.inf, moments["mean"]), "sd": moments["sd"]} | dict(sorted(turned.items()))

    def _periods(self, ratio: np.ndarray) -> np.ndarray:
        """Periods until the cost has come back, in proportion within a period."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.retention)])
        needed = cumulative[-1] / np.where(ratio >= 1, ratio, np.nan)
        periods = np.interp(needed, cumulative, np.arange(len(cumulative)))
        return np.where(ratio < 1, np.inf, periods)

    def _numbers(self, name: str) -> Mapping[str, float]:
        value: Any = getattr(self, name)
        if value is None:
            return {}
        return value if isinstance(value, Mapping) else {ALL: value}


def unit_rates(
    rates: Mapping[str, float],
    keys: Sequence[str],
    units: Sequence[tuple[str, ...]],
    *,
    absent: Collection[tuple[str, ...]] = (),
    key: str,
) -> Float[np.ndarray, " unit"]:
    """The common currency per currency of each unit; one where no rates are given.

    Args:
        rates: Selector ("market=US", or "all") to rate; the last one that fits a unit holds.
        keys: Key columns.
        units: Labels of each unit.
        absent: Labels of others of the table, which a selector may name too.
        key: What to call the rates in errors.

    Raises:
        ConfigError: A rate is none, a selector fits no unit, or a unit has no rate.
    """
    for selector, rate in rates.items():
        if not 0 < rate < np.inf:
            raise ConfigError(f"{selector}: must be above zero, is {rate}", key=key)
    return by_unit(rates, keys, units, absent=absent, key=key) if rates else np.ones(len(units))
