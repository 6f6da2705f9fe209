"""A fleet every night, with Airflow 3: a retry resumes its day's run, and there is none where it is in vain."""

import json
import subprocess
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

RETRY_IN_VAIN = {1: "units are not ok", 2: "a setting is wrong", 3: "the table cannot be read"}


@task(retries=4, retry_delay=timedelta(minutes=10))
def fit(day: str) -> dict:
    """Fits what changed since the night before; the answer, as the last line of the command has it."""
    runs = "/srv/mmm/runs"
    settings = ["data=acme", f"run.root={runs}", f"run.id={day}", f"run.base={runs}", "run.log=stderr"]
    command = ["mixfleet", "fit", "--config-dir", "/srv/mmm/my", *settings, "--fail-under", "0.95", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode in RETRY_IN_VAIN:
        raise AirflowFailException(f"{RETRY_IN_VAIN[done.returncode]}: {done.stdout}")
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


@dag(schedule="0 2 * * *", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, max_active_runs=1)
def mixfleet_night() -> None:
    """One run of the fleet a day."""
    fit("{{ ds }}")


mixfleet_night()
