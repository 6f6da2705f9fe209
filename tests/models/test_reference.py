"""The plain model's curves have derivatives wherever carry-over takes their media, next to nothing included."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.config import Model
from mixfleet.models.reference import saturated_adstock

CURVES = {"hill": {"slope": 0.6, "half_saturation": 0.2}, "root": {"exponent": 0.6}, "logistic": {"rate": 2.0}}


@pytest.mark.parametrize("saturation", CURVES)
def test_curves_have_two_derivatives_where_carry_over_leaves_next_to_nothing(saturation: str):
    model = Model(adstock="weibull_pdf", saturation=saturation, normalise=False, window=5)  # pyright: ignore[reportArgumentType]
    with jax.enable_x64(True):
        media = jnp.zeros((8, 1)).at[2].set(1.0)
        given = {name: jnp.array([value]) for name, value in CURVES[saturation].items()}

        def response(form: Mapping[str, jax.Array]) -> jax.Array:
            return saturated_adstock(media, {**given, **form}, model)[:, 0]

        # What is left after two weeks is 1e-261 and after three 0.
        form = {"adstock_shape": jnp.array([4.4656364]), "adstock_scale": jnp.array([0.7140543])}
        first, second = jax.jacfwd(response)(form), jax.jacrev(jax.jacfwd(response))(form)
        assert all(np.all(np.isfinite(values)) for values in jax.tree.leaves((first, second)))
        step = 1e-6
        for name, slope in first.items():
            ends = (response({**form, name: form[name] + away}) for away in (step, -step))
            above, below = map(np.asarray, ends)
            np.testing.assert_allclose(slope[:, 0], (above - below) / (2 * step), atol=1e-8)
