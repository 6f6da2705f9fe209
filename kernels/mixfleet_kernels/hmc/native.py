"""The native density and block of HMC, and what is asked of a unit's draws, called from the host."""

import ctypes
import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt32

from mixfleet_kernels import native_library
from mixfleet_kernels.channel_form import ChannelForm, numbers
from mixfleet_kernels.hmc.arrays import Adam, Chains, Data, Draws, Evaluation, Form, Geometry, Tuning

__all__ = ["FAMILIES", "advance", "climb", "constrained", "density", "log_strengths", "normals"]

FAMILIES = (
    *("fixed", "half_normal", "lognormal", "gamma", "inverse_gamma", "exponential", "lower_truncated_normal"),
    *("half_student_t", "beta", "uniform", "truncated_normal", "probit_normal"),
    *("laplace", "student_t", "normal_of_one_sign", "laplace_of_one_sign", "student_t_of_one_sign"),
)
"""Prior families in the order in which `native.h` numbers them."""

AS_IT_IS = ChannelForm("none", 1, normalised=False, peer=False, saturation="none", adstock_first=True)
"""The form of a sampled coefficient's column."""


def density(data: Data, form: Form) -> Callable[[Float[np.ndarray, "coordinate lane"]], Evaluation]:
    """The log density of every lane by position, its gradient and what is kept with a draw, to be asked many times.

    The data are told to the library once: that takes longer than a gradient of a few lanes.
    """
    places, extras = [_address(part) for part in data], data.media.shape[1] + data.basis.shape[-1]
    operation = _operation("density", data.media.dtype)

    @functools.cache
    def told(dimension: int, lanes: int) -> "ctypes.Array[ctypes.c_int64]":
        return described(data, form, dimension, lanes)

    def evaluate(position: Float[np.ndarray, "coordinate lane"]) -> Evaluation:
        position = np.ascontiguousarray(position, data.media.dtype)
        dimension, lanes = position.shape
        made = Evaluation(*(np.empty(size, position.dtype) for size in ((lanes,), (dimension, lanes), (extras, lanes))))
        operation(told(dimension, lanes), _array([*places, *map(_address, (position, *made))]))
        return made

    return evaluate


def climb(
    data: Data, form: Form, start: Float[np.ndarray, "coordinate lane"], adam: Adam
) -> tuple[Float[np.ndarray, "coordinate lane"], Float[np.ndarray, " lane"]]:
    """The highest point that Adam comes by from each lane's start, and the log density there."""
    start = np.ascontiguousarray(start, data.media.dtype)
    best, top = np.empty_like(start), np.empty(start.shape[1], start.dtype)
    at = np.arange(1, len(adam.rate) + 1)
    lacking = adam.rate / (1 - adam.mean_decay**at), 1 / (1 - adam.square_decay**at)
    schedule, constants = np.stack(lacking, axis=1).astype(start.dtype), np.array(adam[1:], np.float64)
    _operation("climb", start.dtype)(
        *(described(data, form, *start.shape), ctypes.c_int64(len(schedule)), _pointer(constants)),
        _array(map(_address, [*data, schedule, start, best, top])),
    )
    return best, top


def advance(
    data: Data,
    geometry: Geometry,
    chains: Chains,
    draws: Draws,
    form: Form,
    tuning: Tuning,
    setting_off: Bool[np.ndarray, " unit"] | None = None,
) -> None:
    """Moves chains and draws by `tuning.ticks` leapfrog steps of every lane, in place.

    Args:
        data: The units' data.
        geometry: What stays as it is.
        chains: Between two ticks.
        draws: So far.
        form: What the density is made of.
        tuning: Constants of the sampler.
        setting_off: Units that first set off anew, in the coordinates and under the metric of `geometry`, from the
            original position of `chains.start`, of which density and extra are known, and as gradient the one by it.
    """
    dimension, lanes = chains.here.position.shape
    arrays = [*data, *geometry, *chains.here, *chains.start, *chains[2:], *draws]
    counts = _numbers([tuning.ticks, tuning.most_steps, draws.rows.shape[1]])
    constants = np.array(tuning[2:], np.float64)
    _operation("block", chains.here.position.dtype)(
        *(described(data, form, dimension, lanes), counts, _pointer(constants)),
        _array(map(_address, [*arrays, setting_off])),
    )


def normals(key: UInt32[np.ndarray, "2"], number: int, count: int, dtype: np.typing.DTypeLike) -> np.ndarray:
    """Standard normal numbers of a unit's trajectory `number`, the first `count` of its places."""
    made, key = np.empty(count, dtype), np.ascontiguousarray(key, np.uint32)
    operation = _operation("normals", made.dtype)
    operation(_pointer(key), ctypes.c_uint32(number), ctypes.c_int64(count), _pointer(made))
    return made


def constrained(
    families: Sequence[str], hyper: Float[np.ndarray, "5 row"], position: Float[np.ndarray, "row lane"]
) -> Float[np.ndarray, "row lane"]:
    """The parameters at coordinates with priors of such families and data."""
    return _values(families, hyper, position)


def log_strengths(
    families: Sequence[str], position: Float[np.ndarray, "channel lane"]
) -> Float[np.ndarray, "channel lane"]:
    """Logarithms of strengths in their units."""
    return _values(families, None, position)


def _values(families: Sequence[str], hyper: np.ndarray | None, position: np.ndarray) -> np.ndarray:
    position = np.ascontiguousarray(position)
    made = np.empty_like(position)
    if hyper is not None:
        hyper = np.ascontiguousarray(hyper, position.dtype)
    _operation("values", position.dtype)(
        *(ctypes.c_int64(position.shape[0]), ctypes.c_int64(position.shape[1]), ctypes.c_bool(hyper is None)),
        _numbers([FAMILIES.index(family) for family in families]),
        *map(_pointer, (hyper, position, made)),
    )
    return made


def _operation(name: str, dtype: np.dtype) -> "ctypes._NamedFuncPointer":
    return getattr(native_library.loaded(), f"mixfleet_hmc_{name}_f{8 * dtype.itemsize}")


def _sizes(data: Data, dimension: int, lanes: int) -> tuple[int, ...]:
    """Of weeks, channels, columns, units, chains, coordinates, prior columns, lift tests' three, and gaps."""
    weeks, channels, units = data.media.shape
    return (
        *(weeks, channels, data.basis.shape[-1], units, lanes // units, dimension, data.hyper.shape[1]),
        *(data.lift_media.shape[0], *data.lift_weight.shape[:2], len(data.gap_length)),
    )


def described(data: Data, form: Form, dimension: int, lanes: int) -> "ctypes.Array[ctypes.c_int64]":
    """Sizes and form as the library reads them; of the data only the shapes are looked at."""
    return _described(_sizes(data, dimension, lanes), form)


@functools.cache
def _described(sizes: tuple[int, ...], form: Form) -> "ctypes.Array[ctypes.c_int64]":
    """Sizes and form as the library reads them."""
    weeks, channels, columns, units, chains, dimension, prior_columns, *lift_tests, gaps = sizes
    noise, noise_family = form.noise
    correlation, correlation_family = form.correlation or (0, "fixed")
    window = max(own.window for own in form.channels)
    shapes = [(-1, "fixed") if place is None else place for slot in form.shapes for place in slot]
    sampled = form.coefficients
    told = [
        *(weeks, channels, columns, units, chains, window, dimension, prior_columns, *lift_tests),
        *(form.effect_first, noise, FAMILIES.index(noise_family)),
        *(gaps if form.correlation else 0, correlation, FAMILIES.index(correlation_family)),
        *(form.strength_is_mean, form.measured, form.adstock_slots, len(form.shapes), len(sampled)),
        *(row for row, _ in shapes),
        *(FAMILIES.index(family) for _, family in shapes),
        *(FAMILIES.index(family) for family in form.strengths),
        *(row for row, _ in sampled),
        *(FAMILIES.index(family) for _, family in sampled),
        *(number for own in (*form.channels, *[AS_IT_IS] * len(sampled)) for number in numbers(own)),
    ]
    return _numbers(told)


def _numbers(values: Sequence[int]) -> "ctypes.Array[ctypes.c_int64]":
    return (ctypes.c_int64 * len(values))(*values)


def _address(array: np.ndarray | None) -> int | None:
    """Where an array begins; None where it holds nothing."""
    if array is None or not array.size:
        return None
    assert array.flags.c_contiguous
    # Several times as fast as asking the array, of which a block has sixty.
    if not array.flags.writeable:
        return array.ctypes.data
    return ctypes.addressof(ctypes.c_char.from_buffer(array))  # pyright: ignore[reportArgumentType]


def _pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(_address(array))


def _array(addresses: Iterable[int | None]) -> "ctypes.Array[ctypes.c_void_p]":
    places = list(addresses)
    return (ctypes.c_void_p * len(places))(*places)
