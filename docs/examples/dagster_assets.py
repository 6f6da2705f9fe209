"""A fleet every night, with Dagster: a retry resumes its day's run, and there is none where it is in vain."""

import json
import subprocess

import dagster as dg

RETRY_IN_VAIN = {1: "units are not ok", 2: "a setting is wrong", 3: "the table cannot be read"}


@dg.asset(
    partitions_def=dg.DailyPartitionsDefinition(start_date="2026-01-01"),
    retry_policy=dg.RetryPolicy(max_retries=4, delay=600),
)
def fleet(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """One run of the fleet a day, of what changed since the day before."""
    runs = "/srv/mmm/runs"
    settings = ["data=acme", f"run.root={runs}", f"run.id={context.partition_key}", f"run.base={runs}"]
    command = ["mixfleet", "fit", "--config-dir", "/srv/mmm/my", *settings, "--fail-under", "0.95", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode in RETRY_IN_VAIN:
        raise dg.Failure(f"{RETRY_IN_VAIN[done.returncode]}: {done.stdout}", allow_retries=False)
    done.check_returncode()
    answer = json.loads(done.stdout.splitlines()[-1])
    return dg.MaterializeResult(metadata={name: answer[name] for name in ("run", "units", "ok", "carried", "seconds")})


night = dg.define_asset_job("night", selection=[fleet])
definitions = dg.Definitions(
    assets=[fleet], jobs=[night], schedules=[dg.build_schedule_from_partitioned_job(night, hour_of_day=2)]
)
