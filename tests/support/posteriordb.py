"""Posteriors of posteriordb as log densities of unbounded coordinates, with the parameters of their references."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import beta as beta_distribution
from jax.scipy.stats import cauchy, gamma, norm
from jaxtyping import Array


@dataclass(frozen=True)
class Posterior:
    """One target of `mixfleet.target.sample`."""

    log_density: Callable[[Array], Array]
    parameters: Callable[[Array], Array]
    """In the order of the reference, at coordinates."""
    centre: np.ndarray
    scale: np.ndarray


def regression(outcome: Any, design: np.ndarray, log_prior: Callable[[Array, Array], Array]) -> Posterior:
    """Normal errors; coordinates are the coefficients and the logarithm of the error's standard deviation."""
    y, x = np.asarray(outcome, float), np.asarray(design, float)
    # The ordinary regression's own centre and errors, ten times over: a user's rough idea.
    fitted = np.linalg.lstsq(x, y, rcond=None)[0]
    noise = np.std(y - x @ fitted)
    errors = noise * np.sqrt(np.diag(np.linalg.inv(x.T @ x)))

    def log_density(u: Array) -> Array:
        sigma = jnp.exp(u[-1])
        return jnp.sum(norm.logpdf(y, x @ u[:-1], sigma)) + log_prior(u[:-1], sigma) + u[-1]

    return Posterior(
        log_density,
        lambda u: u.at[-1].set(jnp.exp(u[-1])),
        np.append(fitted + errors, np.log(noise)),
        np.append(10 * errors, 1.0),
    )


def flat(coefficients: Array, sigma: Array) -> Array:
    return 0 * sigma


def ark(data: Mapping[str, Any]) -> Posterior:
    y, lags = np.asarray(data["y"]), data["K"]
    lagged = np.stack([np.ones(len(y) - lags), *(y[lags - k : len(y) - k] for k in range(1, lags + 1))], axis=1)
    return regression(y[lags:], lagged, lambda b, sigma: jnp.sum(norm.logpdf(b, 0, 10)) + cauchy.logpdf(sigma, 0, 2.5))


def arma(data: Mapping[str, Any]) -> Posterior:
    y = jnp.asarray(data["y"])

    def log_density(u: Array) -> Array:
        mu, phi, theta, sigma = u[0], u[1], u[2], jnp.exp(u[3])

        def week(error: Array, now_and_before: tuple[Array, Array]) -> tuple[Array, Array]:
            now, before = now_and_before
            error = now - (mu + phi * before + theta * error)
            return error, error

        first = y[0] - (mu + phi * mu)
        errors = jax.lax.scan(week, first, (y[1:], y[:-1]))[1]
        prior = (
            norm.logpdf(mu, 0, 10) + norm.logpdf(phi, 0, 2) + norm.logpdf(theta, 0, 2) + cauchy.logpdf(sigma, 0, 2.5)
        )
        return norm.logpdf(first, 0, sigma) + jnp.sum(norm.logpdf(errors, 0, sigma)) + prior + u[3]

    return Posterior(log_density, lambda u: u.at[3].set(jnp.exp(u[3])), np.zeros(4), np.ones(4))


def kidscore(data: Mapping[str, Any], *, interaction: bool) -> Posterior:
    iq, school = np.asarray(data["mom_iq"]), np.asarray(data["mom_hs"])
    columns = [np.ones_like(iq), school, iq, school * iq] if interaction else [np.ones_like(iq), iq]
    return regression(data["kid_score"], np.stack(columns, axis=1), lambda _, sigma: cauchy.logpdf(sigma, 0, 2.5))


def earnings(data: Mapping[str, Any]) -> Posterior:
    height, male = np.asarray(data["height"]), np.asarray(data["male"])
    design = np.stack([np.ones_like(height), height, male, height * male], axis=1)
    return regression(np.log(data["earn"]), design, flat)


def mesquite(data: Mapping[str, Any]) -> Posterior:
    d = {name: np.asarray(values) for name, values in data.items()}
    columns = [
        np.ones(data["N"]),
        np.log(d["diam1"] * d["diam2"] * d["canopy_height"]),
        np.log(d["diam1"] * d["diam2"]),
        np.log(d["diam1"] / d["diam2"]),
        np.log(d["total_height"]),
        np.log(d["density"]),
        d["group"],
    ]
    return regression(np.log(d["weight"]), np.stack(columns, axis=1), flat)


def nes(data: Mapping[str, Any]) -> Posterior:
    d = {name: np.asarray(values) for name, values in data.items()}
    ages = [d["age_discrete"] == age for age in (2, 3, 4)]
    rest = [d[name] for name in ("educ1", "gender", "income")]
    design = np.stack([np.ones(data["N"]), d["real_ideo"], d["race_adj"], *ages, *rest], axis=1)
    return regression(d["partyid7"], design, flat)


def blr(data: Mapping[str, Any]) -> Posterior:
    return regression(
        data["y"],
        np.asarray(data["X"]),
        lambda b, sigma: jnp.sum(norm.logpdf(b, 0, 10)) + norm.logpdf(sigma, 0, 10),
    )


def kilpisjarvi(data: Mapping[str, Any]) -> Posterior:
    design = np.stack([np.ones(data["N"]), np.asarray(data["x"], float)], axis=1)
    mean = np.array([data["pmualpha"], data["pmubeta"]])
    sd = np.array([data["psalpha"], data["psbeta"]])
    return regression(data["y"], design, lambda b, _: jnp.sum(norm.logpdf(b, mean, sd)))


def garch(data: Mapping[str, Any]) -> Posterior:
    y = jnp.asarray(data["y"])

    def parameters(u: Array) -> Array:
        alpha = jax.nn.sigmoid(u[2])
        return jnp.array([u[0], jnp.exp(u[1]), alpha, (1 - alpha) * jax.nn.sigmoid(u[3])])

    def log_density(u: Array) -> Array:
        mu, constant, alpha, beta = parameters(u)

        def week(variance: Array, before: Array) -> tuple[Array, Array]:
            variance = constant + alpha * (before - mu) ** 2 + beta * variance
            return variance, variance

        first = jnp.asarray(data["sigma1"] ** 2, float)
        variances = jnp.append(first, jax.lax.scan(week, first, y[:-1])[1])
        logit = jax.nn.log_sigmoid(u[2:]) + jax.nn.log_sigmoid(-u[2:])
        return jnp.sum(norm.logpdf(y, mu, jnp.sqrt(variances))) + u[1] + jnp.sum(logit) + jnp.log1p(-alpha)

    return Posterior(log_density, parameters, np.array([np.mean(data["y"]), 0.0, 0.0, 0.0]), np.ones(4))


def eight_schools(data: Mapping[str, Any]) -> Posterior:
    y, sd = np.asarray(data["y"], float), np.asarray(data["sigma"], float)

    def parameters(u: Array) -> Array:
        mu, tau = u[8], jnp.exp(u[9])
        return jnp.append(mu + tau * u[:8], jnp.array([mu, tau]))

    def log_density(u: Array) -> Array:
        drawn = parameters(u)
        prior = jnp.sum(norm.logpdf(u[:8])) + norm.logpdf(drawn[8], 0, 5) + cauchy.logpdf(drawn[9], 0, 5) + u[9]
        return jnp.sum(norm.logpdf(y, drawn[:8], sd)) + prior

    return Posterior(log_density, parameters, np.zeros(10), np.append(np.ones(8), [5.0, 1.0]))


def gp(data: Mapping[str, Any]) -> Posterior:
    x, y = np.asarray(data["x"], float), np.asarray(data["y"], float)
    squares = (x[:, None] - x) ** 2

    def log_density(u: Array) -> Array:
        rho, alpha, sigma = jnp.exp(u)
        factor = jnp.linalg.cholesky(alpha**2 * jnp.exp(-squares / (2 * rho**2)) + sigma * jnp.eye(len(x)))
        white = jax.scipy.linalg.solve_triangular(factor, y, lower=True)
        prior = gamma.logpdf(rho, 25, scale=0.25) + norm.logpdf(alpha, 0, 2) + norm.logpdf(sigma, 0, 1)
        return -0.5 * jnp.sum(white**2) - jnp.sum(jnp.log(jnp.diag(factor))) + prior + jnp.sum(u)

    return Posterior(log_density, jnp.exp, np.array([1.5, 0.5, 0.0]), np.ones(3))


def mixture(data: Mapping[str, Any]) -> Posterior:
    y = np.asarray(data["y"])

    def parameters(u: Array) -> Array:
        return jnp.array([u[0], u[0] + jnp.exp(u[1]), jnp.exp(u[2]), jnp.exp(u[3]), jax.nn.sigmoid(u[4])])

    def log_density(u: Array) -> Array:
        low, high, sd_low, sd_high, share = parameters(u)
        first = jnp.log(share) + norm.logpdf(y, low, sd_low)
        second = jnp.log1p(-share) + norm.logpdf(y, high, sd_high)
        priors = (
            norm.logpdf(low, 0, 2) + norm.logpdf(high, 0, 2) + norm.logpdf(sd_low, 0, 2) + norm.logpdf(sd_high, 0, 2)
        )
        jacobian = u[1] + u[2] + u[3] + jax.nn.log_sigmoid(u[4]) + jax.nn.log_sigmoid(-u[4])
        return jnp.sum(jnp.logaddexp(first, second)) + priors + beta_distribution.logpdf(share, 5, 5) + jacobian

    return Posterior(log_density, parameters, np.zeros(5), np.ones(5))


POSTERIORS: dict[str, Callable[[Mapping[str, Any]], Posterior]] = {
    "arK-arK": ark,
    "arma-arma11": arma,
    "earnings-logearn_interaction": earnings,
    "eight_schools-eight_schools_noncentered": eight_schools,
    "garch-garch11": garch,
    "gp_pois_regr-gp_regr": gp,
    "kidiq-kidscore_interaction": lambda data: kidscore(data, interaction=True),
    "kidiq-kidscore_momiq": lambda data: kidscore(data, interaction=False),
    "kilpisjarvi_mod-kilpisjarvi": kilpisjarvi,
    "low_dim_gauss_mix-low_dim_gauss_mix": mixture,
    "mesquite-logmesquite_logvas": mesquite,
    "nes1980-nes": nes,
    "sblri-blr": blr,
}
