"""Hyperparameters drawn anew from units' parameters have the distribution of those that the units were drawn from."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import stats

from mixfleet.config import Pooling
from mixfleet.hierarchy.groups import groups_of, prepared
from mixfleet.hierarchy.sampler import redrawn_hyper
from tests.support.quick import ragged_fleet, settings

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

DRAWS = 2000


@pytest.mark.nightly
def test_redrawn_hyperparameters_have_their_prior_where_units_are_drawn_from_it() -> None:
    panel = ragged_fleet()
    spec = replace(settings(panel.data), pooling=Pooling(by=("brand", "market")))
    [(label, units)] = groups_of(panel, spec)
    random = np.random.default_rng(1)
    with jax.enable_x64(True):
        group = prepared(label, units, panel, spec)
        parts = [group.hierarchy, group.columns.hierarchy]
        centre, sd, scale = (np.concatenate([getattr(part, name) for part in parts]) for name in parts[0]._fields[:3])
        used = np.concatenate([part.used for part in parts], axis=1)
        spreads = np.abs(random.normal(size=(3, len(centre), DRAWS))) * scale[:, None]
        centres = random.normal(size=(len(centre), DRAWS)) * sd[:, None] + centre[:, None]
        theta = centres[:, None] + spreads[0][:, None] * random.normal(size=(len(centre), len(units), DRAWS))
        for key, member, spread, own in zip(group.keys, group.hierarchy.keys, spreads[1:], used, strict=True):
            labels = np.argmax(member[:, : len(units)], axis=0)
            assert [group.labels[group.keys.index(key)][place] for place in labels] == [
                unit.labels[panel.keys.index(key)] for unit in units
            ]
            effects = random.normal(size=(len(member), len(centre), DRAWS)) * spread * own[:, None]
            theta += np.moveaxis(effects[labels], 0, 1)
        found = redrawn_hyper(group, theta, np.array([1, 2], np.uint32))
    for quantity, law in zip(found[:4], (stats.norm, stats.halfnorm, stats.halfnorm, stats.halfnorm), strict=True):
        shift, unit = (centre, sd) if law is stats.norm else (0 * centre, scale)
        for row, values in enumerate(quantity):
            standard = (values - shift[row]) / unit[row]
            assert stats.kstest(standard, law.cdf).pvalue > 1e-4
    # They go with the units that they are drawn from.
    middle = theta.mean(axis=1)
    for row in range(len(centre)):
        assert np.corrcoef(found[0, row], middle[row])[0, 1] == pytest.approx(
            np.corrcoef(centres[row], middle[row])[0, 1], abs=0.06
        )
