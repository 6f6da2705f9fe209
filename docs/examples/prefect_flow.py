"""A fleet every night, with Prefect 3: a retry resumes its day's run, and there is none where it is in vain."""

import json
import subprocess
from datetime import UTC, datetime

from prefect import flow, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

RETRY_IN_VAIN = {1: "units are not ok", 2: "a setting is wrong", 3: "the table cannot be read"}


class NightError(Exception):
    """The command did not end well."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"{RETRY_IN_VAIN.get(code, f'exit code {code}')}: {said}")
        self.code = code


def may_help(task: Task, run: TaskRun, state: State) -> bool:
    """Whether another try may end better."""
    del task, run
    error = state.result(raise_on_failure=False)
    return not (isinstance(error, NightError) and error.code in RETRY_IN_VAIN)


@task(retries=4, retry_delay_seconds=600, retry_condition_fn=may_help)
def fit(day: str) -> dict:
    """Fits what changed since the night before; the answer, as the last line of the command has it."""
    runs = "/srv/mmm/runs"
    settings = ["data=acme", f"run.root={runs}", f"run.id={day}", f"run.base={runs}", "run.log=stderr"]
    command = ["mixfleet", "fit", "--config-dir", "/srv/mmm/my", *settings, "--fail-under", "0.95", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise NightError(done.returncode, done.stdout)
    return json.loads(done.stdout.splitlines()[-1])


@flow
def night() -> dict:
    """One run of the fleet a day."""
    return fit(f"{datetime.now(UTC):%Y-%m-%d}")


if __name__ == "__main__":
    night.serve(cron="0 2 * * *")
