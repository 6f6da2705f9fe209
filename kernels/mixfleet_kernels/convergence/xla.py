"""The diagnostics in XLA: a fixed number of draws of which only the first `count` are valid.

Ranks are exact in either precision, and all after the ranks is float64.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import ndtri
from jaxtyping import Array, Bool, Float, Int

from mixfleet_kernels.convergence.arrays import Convergence

_MIN_DRAWS = 4
_TAIL = 0.05


class Window(NamedTuple):
    """What all quantities of a unit share: which draws of a half chain are valid, and what a rank scores."""

    valid: Bool[Array, " draw"]
    length: Int[Array, ""]
    total: Int[Array, ""]
    scores: Float[Array, " score"]


def convergence(draws: Float[Array, "quantity draw chain"], count: Int[Array, ""]) -> Convergence:
    """As `mixfleet_kernels.convergence.convergence`."""
    shared = window_of(draws.shape[2], draws.shape[1], count)
    # One quantity at a time: its arrays stay in the processor's cache, twice as fast on CPU as all at once.
    # The loop also keeps XLA from computing the table of scores anew at every place that reads it.
    rhat, bulk, tail = lax.map(lambda series: _judge(series.T, shared), draws)
    return Convergence(rhat=rhat, ess_bulk=bulk, ess_tail=tail)


def window_of(chains: int, draws: int, count: Int[Array, ""]) -> Window:
    """The valid part of half chains padded to half of `draws`, and the normal scores of its ranks."""
    # In 32 bits the packed sort keys would lose the draws, and numbers would be wrong without a sign of it.
    assert jnp.result_type(float) == jnp.float64, "diagnostics need 64 bits: call under jax.enable_x64(True)"
    padded = draws // 2
    length = count // 2
    total = 2 * chains * length
    # Indexed by the first plus the last sorted position of a run of ties: twice its average rank, less two.
    rank = jnp.arange(4 * chains * padded) / 2.0 + 1.0
    scores = ndtri((jnp.minimum(rank, total) - 0.375) / (total + 0.25))
    return Window(valid=jnp.arange(padded) < length, length=length, total=total, scores=scores)


def _judge(series: Float[Array, "chain draw"], window: Window) -> tuple[Array, Array, Array]:
    """R-hat, bulk and tail effective sample size of one quantity."""
    values, usable = halve(series, window)
    ordered, order = _sort(values, window)
    ranked = _rank_scores(ordered[1:] == ordered[:-1], window)
    scores = jnp.zeros_like(ranked).at[order].set(ranked, unique_indices=True, mode="promise_in_bounds")
    tails = [values <= _quantile(ordered, probability, window) for probability in (_TAIL, 1.0 - _TAIL)]
    covariance, means = autocovariance(jnp.stack([scores.reshape(values.shape), *tails]), window)
    effective = effective_size(covariance, means, window)
    # With enough ties at the top no draw lies above the 95 % quantile: nothing to estimate, each draw counts.
    effective = jnp.where((means == 1.0).all(1), 1.0 * window.total, effective)

    bulk = _rhat(means[0], covariance[0, 0] * window.length / (window.length - 1.0), window)
    folded = _folded_rhat(ordered, order // values.shape[1], window, chains=values.shape[0])
    # Two values, half of the draws each, fold to a constant: then bulk alone decides, as in ArviZ.
    rhat = jnp.where(jnp.isnan(folded), bulk, jnp.maximum(bulk, folded))
    judged = (rhat if series.shape[0] > 1 else jnp.nan, effective[0], jnp.minimum(effective[1], effective[2]))
    rhat, bulk, tail = (jnp.where(usable, value, jnp.nan) for value in judged)
    return rhat, bulk, tail


def halve(series: Float[Array, "chain draw"], window: Window) -> tuple[Float[Array, "half padded"], Bool[Array, ""]]:
    """Every chain cut into two, zero where there is nothing to judge, and whether it can be judged at all."""
    padded = window.valid.size
    second = lax.dynamic_slice_in_dim(series, window.length, padded, axis=1)
    values = jnp.concatenate([series[:, :padded], second])
    valid = window.valid[None, :]
    low = jnp.where(valid, values, jnp.inf).min()
    high = jnp.where(valid, values, -jnp.inf).max()
    usable = jnp.isfinite(low) & jnp.isfinite(high) & (low < high) & (2 * window.length >= _MIN_DRAWS)
    # Adding zero makes the two zeros one, which ties need and a comparison of bits would miss.
    return jnp.where(valid & usable, values, 0) + 0.0, usable


def _sort(
    values: Float[Array, "half draw"], window: Window
) -> tuple[Float[Array, " position"], Int[Array, " position"]]:
    """Values in ascending order, padding last, and the place each had before."""
    flat = jnp.where(window.valid[None, :], values, jnp.inf).ravel()
    place = lax.iota(jnp.int32, flat.size)
    if flat.dtype != jnp.float32:
        ordered, order = lax.sort((flat, place), num_keys=1)
        return ordered, order
    # One 64-bit integer holds value and place: XLA sorts a lone integer six times faster than anything else.
    bits = _monotone(lax.bitcast_convert_type(flat, jnp.int32))
    packed = lax.sort((bits.astype(jnp.int64) << 32) | place.astype(jnp.int64))
    ordered = lax.bitcast_convert_type(_monotone((packed >> 32).astype(jnp.int32)), jnp.float32)
    return ordered, packed.astype(jnp.int32)


def _monotone(bits: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Bits of a float32 as an integer in the same order, and back again."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _rank_scores(tied: Bool[Array, " gap"], window: Window) -> Float[Array, " position"]:
    """Normal score of the average rank at each sorted position, given which neighbours tie; padding has 0."""
    place = lax.iota(jnp.int32, tied.size + 1)
    tied = tied & (place[1:] < window.total)
    first = place - jnp.pad(tied, (1, 0))
    last = place + jnp.pad(tied, (0, 1))

    # Pointers double their reach each round: as many rounds as the longest run has bits, none without ties.
    def double(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        first, last, _ = state
        nearer = first.at[first].get(mode="promise_in_bounds")
        farther = last.at[last].get(mode="promise_in_bounds")
        return nearer, farther, (nearer != first).any() | (farther != last).any()

    first, last, _ = lax.while_loop(lambda state: state[2], double, (first, last, tied.any()))
    return jnp.where(place < window.total, window.scores.at[first + last].get(mode="promise_in_bounds"), 0.0)


def _quantile(ordered: Float[Array, " position"], probability: float, window: Window) -> Float[Array, ""]:
    """Quantile of the valid sorted values by linear interpolation, rounded as numpy rounds it."""
    exact = (window.total - 1) * probability
    below = jnp.floor(exact).astype(jnp.int32)
    weight = exact - below
    low, high = lax.dynamic_slice_in_dim(ordered, below, 2).astype(jnp.float64)
    return jnp.where(weight < 0.5, low + (high - low) * weight, high - (high - low) * (1.0 - weight))


def autocovariance(
    series: Float[Array, "*row half draw"], window: Window
) -> tuple[Float[Array, "*row lag"], Float[Array, "*row half"]]:
    """Autocovariance at every lag, averaged over half chains, and the mean of each half chain."""
    valid = jnp.broadcast_to(window.valid, series.shape)
    means = jnp.where(valid, series, 0.0).sum(-1) / window.length
    centred = jnp.where(valid, series - means[..., None], 0.0)
    # First halves are the real and second halves the imaginary part of one transform: the real part of the
    # inverse of its power is the sum of both autocovariances, a quarter faster than two real transforms.
    chains, draws = series.shape[-2] // 2, series.shape[-1]
    paired = lax.complex(centred[..., :chains, :], centred[..., chains:, :])
    spectrum = jnp.fft.fft(paired, n=_fast_length(2 * draws))
    power = (spectrum * spectrum.conj()).sum(-2)
    return jnp.fft.ifft(power)[..., :draws].real / (2 * chains * window.length), means


def _fast_length(size: int) -> int:
    """Smallest number from `size` up whose prime factors are 2, 3 and 5."""
    best = 1 << (size - 1).bit_length()
    for three in (3**power for power in range(12)):
        for five in (5**power for power in range(8)):
            odd = three * five
            best = min(best, odd << max(0, (-(-size // odd) - 1).bit_length()))
    return best


def effective_size(
    covariance: Float[Array, "*row lag"], means: Float[Array, "*row half"], window: Window
) -> Float[Array, "*row"]:
    """Effective sample size by Geyer's initial positive, monotone sequence of pairs of autocorrelations."""
    length = window.length
    variance = covariance[..., :1]
    plus = variance + jnp.var(means, axis=-1, ddof=1, keepdims=True)
    correlation = 1.0 - (variance * length / (length - 1.0) - covariance) / plus
    pairs = covariance.shape[-1] // 2
    even = correlation[..., 0 : 2 * pairs : 2].at[..., 0].set(1.0)
    sums = even + correlation[..., 1 : 2 * pairs : 2]

    index = lax.broadcasted_iota(jnp.int32, sums.shape, sums.ndim - 1)
    stop = jnp.argmax((sums <= 0.0) | (index >= jnp.maximum(length - 3, 0) // 2), axis=-1, keepdims=True)
    monotone = jnp.where(index < stop, lax.cummin(sums, axis=sums.ndim - 1), 0.0).sum(-1)
    # The pair that ends the sequence adds its even lag once, unless that lag is what made the pair negative.
    ending, last_even = (jnp.take_along_axis(pair, stop, axis=-1)[..., 0] for pair in (sums, even))
    final = jnp.where((ending >= 0.0) | (last_even > 0.0), last_even, 0.0)
    time = jnp.maximum(2.0 * monotone - 1.0 + final, 1.0 / jnp.log10(window.total.astype(jnp.float64)))
    return window.total / time


def _rhat(means: Float[Array, " half"], within: Float[Array, ""], window: Window) -> Float[Array, ""]:
    """Potential scale reduction from the means of the half chains and their average variance."""
    between = window.length * jnp.var(means, ddof=1)
    return jnp.sqrt((between / within + window.length - 1.0) / window.length)


def _folded_rhat(
    ordered: Float[Array, " position"], chain: Int[Array, " position"], window: Window, *, chains: int
) -> Float[Array, ""]:
    """R-hat of the distance from the median, which sees half chains that differ in spread."""
    place = jnp.arange(ordered.size)
    distance = jnp.abs(ordered.astype(jnp.float64) - _quantile(ordered, 0.5, window))
    # Bits of a positive float are in its order. After the sort only the half chain of a distance matters: it
    # takes the last bits of the mantissa, so with 8 chains distances are told apart to 2**-48 of themselves.
    room = (chains - 1).bit_length()
    packed = ((lax.bitcast_convert_type(distance, jnp.int64) >> room) << room) | chain
    packed = _sort_valley(jnp.where(place < window.total, packed, jnp.iinfo(jnp.int64).max))
    ranked = _rank_scores((packed[1:] >> room) == (packed[:-1] >> room), window)
    # Padding scores zero: spread over the half chains it does not wait for itself at a single address.
    owner = jnp.where(place < window.total, packed & ((1 << room) - 1), place % chains)
    moments = jnp.stack([ranked, ranked * ranked], axis=-1)
    sums = jnp.zeros((chains, 2)).at[owner].add(moments, mode="promise_in_bounds")
    means = sums[:, 0] / window.length
    within = jnp.maximum(sums[:, 1] - window.length * means * means, 0.0).mean() / (window.length - 1.0)
    return _rhat(means, within, window)


def _sort_valley(values: Int[Array, " position"]) -> Int[Array, " position"]:
    """Values in ascending order, given that they first fall and then rise: a bitonic merge beats a sort.

    References:
        Batcher (1968), Sorting networks and their applications. doi:10.1145/1468075.1468121.
    """
    size = values.size
    widest = 1 << max(0, (size - 1).bit_length() - 1)
    place = lax.iota(jnp.int32, size)
    before = jnp.zeros(widest, values.dtype)
    after = jnp.full(widest, jnp.iinfo(values.dtype).max)

    def exchange(step: Int[Array, ""], values: Int[Array, " position"]) -> Int[Array, " position"]:
        stride = jnp.int32(widest) >> step
        padded = jnp.concatenate([before, values, after])
        left = lax.dynamic_slice_in_dim(padded, widest - stride, size)
        right = lax.dynamic_slice_in_dim(padded, widest + stride, size)
        return jnp.where((place & stride) != 0, jnp.maximum(values, left), jnp.minimum(values, right))

    return lax.fori_loop(0, widest.bit_length(), exchange, values)
