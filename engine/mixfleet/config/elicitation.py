"""Elicitation: a prior's hyperparameters from what somebody can say of the quantity.

| told | meaning |
|---|---|
| `{mean: 1.8, sd: 0.5}` | mean and standard deviation |
| `{estimate: 1.8, standard_error: 0.5}` | the same, in an experiment's words |
| `{low: 0.5, high: 3, mass: 0.9}` | a central interval, of 90 % where no mass is given |
| `{quantiles: {0.1: 0.5, 0.9: 3}}` | as many quantiles as the family has hyperparameters |
| `{mean: 1.8}`, `{quantiles: {0.5: 1.2}}` | for a family of one hyperparameter |
"""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from mixfleet.config import schema
from mixfleet.errors import ConfigError

__all__ = ["elicited"]

LEAST_SHAPE, LARGEST_SHAPE = -4.0, 15.0
"""Logarithms of the least and largest shape of a gamma that is looked for."""

LEAST_DF, LARGEST_DF = 0.0, 10.0
"""Logarithms of the least and largest degrees of freedom of a half-Student-t that are looked for."""

Told = Mapping[Any, Any]
Hyperparameters = dict[str, float]


def elicited(family: str, told: Any, key: str) -> Hyperparameters:
    """Hyperparameters of `family` that have what is told.

    Args:
        family: One of those below.
        told: See the module.
        key: Dotted name of the setting.

    Raises:
        ConfigError: Something else is told, or no prior of the family has it.
    """
    if not isinstance(told, Mapping):
        raise ConfigError(f"must be such as {{mean: 1.8, sd: 0.5}}, is {told!r}", key=key)
    names = frozenset(map(str, told))
    if "quantiles" in names or "low" in names:
        fits, number, known = _BY_QUANTILES, _quantiles, _interval(told, names, key)
    elif names in ({"mean", "sd"}, {"estimate", "standard_error"}, {"mean"}, {"estimate"}):
        fits, number, known = _BY_MOMENTS, _moments, told
    else:
        raise ConfigError(
            "must be {mean, sd}, {estimate, standard_error}, {low, high, mass} or {quantiles: {0.1: .., 0.9: ..}}, "
            f"has {', '.join(sorted(names)) or 'nothing'}",
            key=key,
        )
    if family not in fits:
        raise ConfigError(f"cannot be turned into {family}; those that can: {', '.join(fits)}", key=key)
    count, solve = fits[family]
    numbers = number(known, key)
    if len(numbers) != count:
        raise ConfigError(f"{family} is fixed by {count} such number{'s'[: count - 1]}, {len(numbers)} given", key=key)
    found = solve(numbers)
    if found is None or not all(math.isfinite(value) for value in found.values()):
        raise ConfigError(f"no {family} is like that", key=key)
    return found


def _interval(told: Told, names: frozenset[str], key: str) -> Told:
    """Quantiles of a central interval, or those told."""
    if names == {"quantiles"}:
        return told["quantiles"]
    if not {"low", "high"} <= names <= {"low", "high", "mass"}:
        raise ConfigError("must have low and high, and may have mass, the interval's probability", key=key)
    mass = schema.convert(told.get("mass", 0.9), float, f"{key}.mass")
    if not 0 < mass < 1:
        raise ConfigError(f"must be between 0 and 1, is {mass:g}", key=f"{key}.mass")
    return {(1 - mass) / 2: told["low"], (1 + mass) / 2: told["high"]}


def _quantiles(told: Any, key: str) -> list[tuple[float, float]]:
    """Probability and value, ascending."""
    if not isinstance(told, Mapping):
        raise ConfigError(f"must be such as {{0.1: 0.5, 0.9: 3}}, is {told!r}", key=f"{key}.quantiles")
    try:
        pairs = sorted((float(level), schema.convert(value, float, key)) for level, value in told.items())
    except (TypeError, ValueError) as error:
        raise ConfigError("must be numbers, such as {0.1: 0.5, 0.9: 3}", key=f"{key}.quantiles") from error
    levels, values = zip(*pairs, strict=True) if pairs else ((), ())
    if not all(0 < level < 1 for level in levels):
        raise ConfigError("must be at probabilities between 0 and 1", key=f"{key}.quantiles")
    if not all(math.isfinite(value) for value in values) or any(b <= a for a, b in pairwise(values)):
        raise ConfigError("must rise with their probability", key=key)
    return pairs


def _moments(told: Told, key: str) -> list[float]:
    """Mean and, where it is told, standard deviation."""
    values = [
        schema.convert(told[name], float, f"{key}.{name}")
        for name in ("mean", "estimate", "sd", "standard_error")
        if name in told
    ]
    if len(values) == 2 and not values[1] > 0:
        raise ConfigError(f"must have a spread above 0, has {values[1]:g}", key=key)
    return values


def _positive(solve: Callable[..., Hyperparameters | None]) -> Callable[[list[float]], Hyperparameters | None]:
    """By moments of a positive quantity: none where the mean is not."""
    return lambda moments: solve(*moments) if moments[0] > 0 else None


def _lognormal_of_moments(mean: float, sd: float) -> Hyperparameters:
    variance = math.log1p((sd / mean) ** 2)
    return {"mean_log": math.log(mean) - variance / 2, "sd_log": math.sqrt(variance)}


def _beta_of_moments(mean: float, sd: float) -> Hyperparameters | None:
    if not mean < 1 or not sd**2 < mean * (1 - mean):
        return None
    size = mean * (1 - mean) / sd**2 - 1
    return {"a": mean * size, "b": (1 - mean) * size}


def _normal_of_quantiles(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    from scipy.special import ndtri

    (p, low), (q, high) = pairs
    sd = (high - low) / float(ndtri(q) - ndtri(p))
    return low - sd * float(ndtri(p)), sd


def _lognormal_of_quantiles(pairs: list[tuple[float, float]]) -> Hyperparameters | None:
    if pairs[0][1] <= 0:
        return None
    mean, sd = _normal_of_quantiles([(level, math.log(value)) for level, value in pairs])
    return {"mean_log": mean, "sd_log": sd}


def _gamma_of_quantiles(pairs: list[tuple[float, float]]) -> Hyperparameters | None:
    """The shape from the quantiles' ratio, which falls in it; then the rate."""
    from scipy.optimize import root_scalar
    from scipy.special import gammaincinv

    (p, low), (q, high) = pairs
    if low <= 0:
        return None

    def excess(log_shape: float) -> float:
        shape = math.exp(log_shape)
        lower = float(gammaincinv(shape, p))
        return math.log(float(gammaincinv(shape, q)) / lower) - math.log(high / low) if lower > 0 else math.inf

    if not excess(LEAST_SHAPE) > 0 > excess(LARGEST_SHAPE):
        return None
    shape = math.exp(root_scalar(excess, bracket=(LEAST_SHAPE, LARGEST_SHAPE), xtol=1e-13, rtol=1e-13).root)
    return {"shape": shape, "rate": float(gammaincinv(shape, p)) / low}


def _inverse_gamma_of_quantiles(pairs: list[tuple[float, float]]) -> Hyperparameters | None:
    """What is one over a gamma."""
    if pairs[0][1] <= 0:
        return None
    found = _gamma_of_quantiles([(1 - level, 1 / value) for level, value in reversed(pairs)])
    return found and {"shape": found["shape"], "scale": found["rate"]}


def _beta_of_quantiles(pairs: list[tuple[float, float]]) -> Hyperparameters | None:
    from scipy.optimize import least_squares
    from scipy.special import betainc

    if not (pairs[0][1] > 0 and pairs[-1][1] < 1):
        return None

    def excess(log_shapes: Any) -> list[float]:
        a, b = map(math.exp, log_shapes)
        return [float(betainc(a, b, value)) - level for level, value in pairs]

    found = least_squares(excess, [0.0, 0.0], bounds=(-8, 15), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    a, b = map(math.exp, found.x)
    return {"a": a, "b": b} if max(map(abs, found.fun)) < 1e-6 else None


def _half_normal_of_quantile(pairs: list[tuple[float, float]]) -> Hyperparameters | None:
    from scipy.special import ndtri

    ((level, value),) = pairs
    return {"sd": value / float(ndtri((1 + level) / 2))} if value > 0 else None


def _half_student_t_of_quantiles(pairs: list[tuple[float, float]]) -> Hyperparameters | None:
    """The degrees of freedom from the quantiles' ratio, which falls in them to a half-normal's; then the scale."""
    from scipy.optimize import root_scalar
    from scipy.special import stdtrit

    (p, low), (q, high) = pairs
    if low <= 0:
        return None

    def excess(log_df: float) -> float:
        df = math.exp(log_df)
        return math.log(float(stdtrit(df, (1 + q) / 2)) / float(stdtrit(df, (1 + p) / 2))) - math.log(high / low)

    if not excess(LEAST_DF) > 0 > excess(LARGEST_DF):
        return None
    df = math.exp(root_scalar(excess, bracket=(LEAST_DF, LARGEST_DF), xtol=1e-13, rtol=1e-13).root)
    return {"df": df, "scale": low / float(stdtrit(df, (1 + p) / 2))}


def _exponential_of_quantile(pairs: list[tuple[float, float]]) -> Hyperparameters | None:
    ((level, value),) = pairs
    return {"rate": -math.log1p(-level) / value} if value > 0 else None


_Fit = tuple[int, Callable[[list[Any]], Hyperparameters | None]]
"""How many numbers fix a prior of the family, and its hyperparameters from them."""

_BY_MOMENTS: dict[str, _Fit] = {
    "normal": (2, lambda moments: {"mean": moments[0], "sd": moments[1]}),
    "lognormal": (2, _positive(_lognormal_of_moments)),
    "gamma": (2, _positive(lambda mean, sd: {"shape": (mean / sd) ** 2, "rate": mean / sd**2})),
    "inverse_gamma": (
        2,
        _positive(lambda mean, sd: {"shape": 2 + (mean / sd) ** 2, "scale": mean * (1 + (mean / sd) ** 2)}),
    ),
    "beta": (2, _positive(_beta_of_moments)),
    "half_normal": (1, _positive(lambda mean: {"sd": mean * math.sqrt(math.pi / 2)})),
    "exponential": (1, _positive(lambda mean: {"rate": 1 / mean})),
}

_BY_QUANTILES: dict[str, _Fit] = {
    "normal": (2, lambda pairs: dict(zip(("mean", "sd"), _normal_of_quantiles(pairs), strict=True))),
    "lognormal": (2, _lognormal_of_quantiles),
    "gamma": (2, _gamma_of_quantiles),
    "inverse_gamma": (2, _inverse_gamma_of_quantiles),
    "beta": (2, _beta_of_quantiles),
    "half_normal": (1, _half_normal_of_quantile),
    "half_student_t": (2, _half_student_t_of_quantiles),
    "exponential": (1, _exponential_of_quantile),
}
