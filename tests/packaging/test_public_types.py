"""What a type checker says of calls as users write them."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RIGHT = """
import pandas as pd
import mixfleet as mf

data = mf.Data(channels=(mf.Channel(name="tv", spend="tv"),))
table = pd.DataFrame()
run = mf.fit(table, data=data, model={"saturation": "hill"}, prior="weak", inference={"seed": 1})
plan = mf.budget(run, weeks=13, change=0.2, bounds={"channel=tv": (0.5, 2.0)}, lock=("market=DE",))
run.report("report.html", margin={"all": 0.4})
run.insight.valued(customer_value=80.0, retention=(1.0, 0.6)).roi()
mf.backtest("sales.csv", data=data, run={"id": "backtest"}, origins=2)
mf.check(table, data, model={"window": 5})
"""

WRONG = (
    ("mf.fit('a.csv', modle={})", "modle"),
    ("mf.fit('a.csv', model=7)", "model"),
    ("mf.budget('runs/a', wekes=3)", "wekes"),
    ("mf.budget('runs/a', weeks='three')", "weeks"),
    ("mf.open('runs/a').report(margn=0.4)", "margn"),
    ("mf.check(3)", "table"),
)


def complaints(code: str, folder: Path) -> list[str]:
    (folder / "snippet.py").write_text(code)
    settings = {
        "include": ["snippet.py"],
        "extraPaths": [str(ROOT / "engine"), str(ROOT / "kernels")],
        "typeCheckingMode": "standard",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = ["pyright", "--outputjson", "-p", str(folder)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return [f"{one['range']['start']['line']} {one['message']}" for one in found["generalDiagnostics"]]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pyright") is None, reason="needs pyright, which the dev extra installs")
def test_calls_as_users_write_them_have_types(tmp_path: Path) -> None:
    assert complaints(RIGHT, tmp_path) == []
    lines = "\n".join(call for call, _ in WRONG)
    found = complaints(f"import mixfleet as mf\n{lines}\n", tmp_path)
    for number, (call, name) in enumerate(WRONG, start=1):
        own = [message for message in found if message.startswith(f"{number} ")]
        assert any(name in message for message in own), f"{call}: {own}"
