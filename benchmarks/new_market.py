"""What pooling gives a new market: ten weeks of data, then 26 weeks to be forecast, with and without its brand.

    python -m benchmarks.new_market

Every one of the 48 series of `brands_6x8` (known truth, a generator that is not our model) plays the new market once:
of its 156 weeks it keeps the last 36, of which the last 26 are held out, and so are those of the other seven markets
of its brand, which keep the weeks before. It is fitted alone, and pooled with them. Found through MIXFLEET_SHARED_DATA.
"""

import argparse
import tempfile

import numpy as np
import pandas as pd

BRANDS = "sim_param_recovery/brands_6x8.parquet"
TRAINED, HELD_OUT = 10, 26


def main() -> None:
    """Fits both, and prints the held-out weeks' scores of the new markets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brands", type=int, default=6)
    arguments = parser.parse_args()
    import mixfleet as mf
    from tests.support.shared_data import shared

    table = pd.read_parquet(shared(BRANDS))
    table = table.loc[table["brand"].isin(sorted(table["brand"].unique())[: arguments.brands])]
    data = mf.Data(
        keys=("brand", "geo"),
        kpi="y",
        channels=tuple(mf.Channel(name=name.split("_", 1)[1], spend=name) for name in table if name.startswith("x")),
        controls=tuple(name for name in table if name.startswith("c")),
        holdout=HELD_OUT,
        min_weeks=TRAINED,
    )
    scenes, new = [], []
    for brand, geo in sorted(set(zip(table["brand"], table["geo"], strict=True))):
        own = table.loc[(table["brand"] == brand) & (table["geo"] == geo)]
        recent = own.sort_values("date").tail(TRAINED + HELD_OUT).assign(brand=f"{brand} {geo}")
        others = table.loc[(table["brand"] == brand) & (table["geo"] != geo)].assign(brand=f"{brand} {geo}")
        scenes.append(pd.concat([recent, others]))
        new.append(recent)
    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, frame, by in (("alone", new, "none"), ("pooled", scenes, "brand")):
            run = mf.fit(
                pd.concat(frame),
                data=data,
                model={"saturation": "hill", "observation": "normal"},
                pooling={"by": by},
                # Ten weeks alone leave tails that the ladder would climb for an hour; the scores need no certificate.
                inference={"ladder": name == "pooled"},
                run={"root": folder, "id": name},
            )
            accuracy = run.table("fit").to_pandas().set_index(["brand", "geo"])
            thin = [(own["brand"].iloc[0], own["geo"].iloc[0]) for own in new]
            scores[name] = accuracy.loc[thin]
    _report(scores["alone"], scores["pooled"])


def _report(alone: pd.DataFrame, pooled: pd.DataFrame) -> None:
    for name, scored in (("alone", alone), ("pooled", pooled)):
        certified = scored["status"].str.startswith("ok").mean()
        print(
            f"{name:7s} mean CRPS {scored['holdout_crps'].mean():10.1f}   "
            f"90 % intervals cover {scored['holdout_coverage90'].mean():.1%}   certified {certified:.1%}"
        )
    ratio = (pooled["holdout_crps"] / alone["holdout_crps"]).to_numpy()
    print(
        f"pooled over alone: mean CRPS {pooled['holdout_crps'].mean() / alone['holdout_crps'].mean() - 1:+.1%}, median "
        f"ratio {np.median(ratio):.3f}, lower in {np.mean(ratio < 1):.1%} of {len(ratio)} markets"
    )


if __name__ == "__main__":
    main()
