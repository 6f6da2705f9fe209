"""Settings, tables, names and run folders that mean harm: refused at once, no code run, nothing written elsewhere."""

import gc
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mixfleet.analysis.insight  # noqa: F401 - so that no test is timed while jax is loaded
from mixfleet.cli.main import app
from mixfleet.config import Model
from mixfleet.storage.manifest import MANIFEST, SUCCESS
from tests.support.saved_run import saved_run

CANARY = "canary-5d1f"
SECONDS = 1.0
TABLE = "brand,market,date,kpi,tv\n" + "".join(f"a,b,2024-01-{day:02d},3,1\n" for day in (1, 8, 15))
CODES = (1, 2, 3)


@pytest.fixture(scope="module", autouse=True)
def loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Everything is imported before anything is timed."""
    path = tmp_path_factory.mktemp("first") / "t.csv"
    path.write_text(TABLE)
    CliRunner().invoke(app, ["check", "data=table", f"data.path={path}", "data.channels=[tv]"])


@pytest.fixture(scope="module", autouse=True)
def little_garbage() -> Iterator[None]:
    """What other tests left in this process is not looked through while a refusal is timed."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in; nothing beside it may change."""
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious").write_text("precious")
    (folder / "t.csv").write_text(TABLE)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MIXSECRET", CANARY)
    yield folder
    assert {path.name: path.read_text() for path in (tmp_path / "victim").iterdir()} == {"precious": "precious"}
    assert not list(tmp_path.rglob("pwned*"))
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "victim", "run"}


def refused(*arguments: object, codes: tuple[int, ...] = CODES) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert time.process_time() - start < SECONDS, arguments
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
    assert result.exit_code in codes, (arguments, result.output[-500:])
    assert "Traceback" not in result.output
    assert "unexpected error" not in result.output
    assert CANARY not in result.output
    assert "\x1b]" not in result.output
    return result.output


OVERRIDES = [
    *(
        f"data.currency={value}"
        for value in (
            "${oc.env:MIXSECRET}",
            "${oc.env:MIXSECRET,x}",
            "${oc.${.kpi}:MIXSECRET}",
            "${oc.decode:'1'}",
            "${oc.select:data.kpi}",
            "${hydra:runtime.cwd}",
            "${env:MIXSECRET}",
            "${oc.create:{a: 1}}",
            "'${oc.env:MIXSECRET}'",
            "a${oc.env:MIXSECRET}b",
            "${oc.dict.keys:data}",
            "${${oc.env:MIXSECRET}}",
        )
    ),
    *(f"data.kpi={value}" for value in ("${oc.env:MIXSECRET}", "'${oc.env:MIXSECRET}'", "${a:}", "${..x:}")),
    *(
        f"run.id={value}"
        for value in (
            "../victim",
            "/pwned",
            "'..'",
            "'.'",
            "a/../../victim",
            "'a\\0b'",
            "x" * 300,
            "'pwned/../../victim'",
        )
    ),
    "hydra.searchpath=[pkg://os]",
    "hydra.searchpath=[pkg://this]",
    "hydra.searchpath=pkg://antigravity",
    "hydra.run.dir=../victim",
    "hydra.sweep.dir=../victim",
    "hydra/launcher=joblib",
    "hydra/job_logging=none",
    "hydra.callbacks={a: {_target_: os.system}}",
    "+hydra.job.chdir=true",
    "hydra.output_subdir=../victim",
    "+_target_=os.system",
    "+data._target_=os.system",
    "++model._target_=builtins.exec",
    "+model={_target_: os.system}",
    "data=../../victim/precious",
    "data=/etc/passwd",
    "prior=../../../etc/passwd",
    "inference.chains=1e400",
    "inference.chains=nan",
    "inference.chains=-1",
    "inference.chains=1.5",
    "inference.seed=-1",
    "inference.rhat_max=nan",
    "compute.lanes=10000000000",
    "compute.memory_limit_gib=-inf",
    "compute.devices=0",
    "compute.devices=-3",
    "model.window=0",
    "model.window=1e99",
    "model.seasonality=-1",
    "model.adstock=__import__",
    "model.terms=[os.system]",
    "model.saturation='../x'",
    "model.observation=exec",
    "data.keys=[kpi]",
    "data.keys=[a,a]",
    "data.keys=7",
    "data.channels=[all]",
    "data.channels=[baseline]",
    "data.channels=[kpi]",
    "data.channels={a: {}}",
    "data.channels={a: {spend: tv, evil: 1}}",
    "data.channels=[[tv]]",
    "data.date_format='%n%n%n'",
    "data.encoding=rot13",
    "data.encoding=zip",
    "data.encoding='../x'",
    "data.min_weeks=-5",
    "data.holdout=-1",
    "data.layout=deep",
    "data.decimal=x",
    "data.frequency=hourly",
    "prior.parameters={effect: {evil: 1}}",
    "prior.parameters={effect: {sd: nan}}",
    "prior.parameters={effect: {sd: -1}}",
    "prior.parameters.effect=exec",
    "prior.parameters={effect: " + "{a: " * 200 + "1" + "}" * 201,
    "data.channels=" + "[" * 2000 + "]" * 2000,
    "data.path=/proc/*/environ",
    "data.path=/dev/fd",
    "pooling.by=nope",
    "output.draws=pickle",
    "output.thin=0",
    "nope.nope=1",
    "=",
    "==",
    "{}",
    "[",
    "data.kpi={",
    "data.kpi=[",
    "x" * 5000,
    "data.path=/dev/zero",
    "data.path=/dev/stdin",
    "data.path=/proc/self/environ",
    "data.path='a\\0b.csv'",
    "data.path=https://x/y.csv",
    "data.path=s3://bucket/x.parquet",
    "data.path='**/../../../../../../**/nothing.csv'",
    "data.path=" + "a/" * 3000 + "x.csv",
]


@pytest.mark.parametrize("override", OVERRIDES, ids=range(len(OVERRIDES)))
def test_a_hostile_override_is_refused(home: Path, override: str) -> None:
    given = [item for item in ("data.path=t.csv", "data.channels=[tv]") if not override.startswith(item[:13])]
    refused("fit", "data=table", *given, override)
    assert not (home / "runs").exists() or not list((home / "runs").iterdir())


YAMLS = {
    "tag": "path: !!python/object/apply:os.system [touch pwned]",
    "name": "path: !!python/name:os.system",
    "module": "path: !!python/module:antigravity",
    "alias": "path: &a x\nkpi: *a",
    "bomb": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\npath: [*b,*b,*b,*b,*b,*b]",
    "merge": "<<: {path: x}",
    "twice": "path: a\npath: b",
    "deep": "path: " + "[" * 3000 + "]" * 3000,
    "documents": "path: a\n---\npath: b",
    "resolver": "path: t.csv\nchannels: [tv]\ncurrency: ${oc.env:MIXSECRET}",
    "nested resolver": "path: t.csv\nchannels: [tv]\ncurrency: ${oc.${.kpi}:MIXSECRET}\nkpi: env",
    "target": "path: t.csv\n_target_: os.system",
    "binary": "path: \x00\x01",
    "huge number": "path: t.csv\nmin_weeks: " + "9" * 100_000,
    "long": "path: " + "x" * 2_000_000,
    "list": "- a\n- b",
    "text": "just text",
}


@pytest.mark.parametrize("name", YAMLS)
def test_hostile_yaml_is_refused(home: Path, name: str) -> None:
    (home / "data").mkdir()
    (home / "data" / "evil.yaml").write_text(YAMLS[name])
    refused("check", "--config-dir", ".", "data=evil")


TABLES = {
    "escape.csv": "brand,market,date,kpi,tv\n\x1b]0;pwned\x07,b,2024-01-01,3,x\n",
    "formula.csv": TABLE.replace("a,b", "=cmd|'/c calc'!A1,b"),
    "nul.csv": "brand,market,date,kpi,tv\na\0,b,2024-01-01,3,1\n",
    "quote.csv": 'brand,market,date,kpi,tv\n"' + "x" * 300_000,
    "wide.csv": ",".join(f"c{i}" for i in range(200_000)) + "\n",
    "infinite.csv": TABLE.replace("3,1", "inf,1"),
    "enormous.csv": TABLE.replace("3,1", "1e999,1"),
    "future.csv": TABLE.replace("2024", "9999"),
    "past.csv": TABLE.replace("2024", "0001"),
    "zip.xlsx": "PK\x03\x04 this is no workbook",
    "magic.parquet": "PAR1xxxxPAR1",
    "empty.parquet": "",
    "page.html": "<html></html>",
    "code.pkl": "cos\nsystem\n(S'touch pwned'\ntR.",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_hostile_table_is_refused(home: Path, name: str) -> None:
    (home / name).write_text(TABLES[name], encoding="latin-1")
    refused("check", "data=table", f"data.path={name}", "data.channels=[tv]")


def resealed(run: Path, change: Callable[[dict], None]) -> None:
    """Another manifest, with the digest that vouches for it."""
    import hashlib

    manifest = json.loads((run / MANIFEST).read_text())
    change(manifest)
    data = json.dumps(manifest).encode()
    (run / MANIFEST).write_bytes(data)
    (run / SUCCESS).write_text(json.dumps({"manifest": hashlib.sha256(data).hexdigest()}))


def without(key: str) -> Callable[[Path], None]:
    return lambda run: resealed(run, lambda manifest: manifest.pop(key))


def with_value(key: str, value: object) -> Callable[[Path], None]:
    return lambda run: resealed(run, lambda manifest: manifest.update({key: value}))


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / name).unlink()
        make(run / name)

    return change


FOLDERS: dict[str, Callable[[Path], object]] = {
    **{f"no {key}": without(key) for key in ("keys", "units", "files", "counts", "config", "schema_version")},
    **{
        f"other {key}": with_value(key, value)
        for key, value in (
            ("keys", "brand"),
            ("keys", [1]),
            ("units", "many"),
            ("files", []),
            ("files", {"summary/roi.parquet": 3}),
            ("files", {"../../victim/precious": {"sha256": "0"}}),
            ("counts", 3),
            ("schema_version", 99),
        )
    },
    "pipe for manifest": instead(MANIFEST, os.mkfifo),
    "pipe for table": instead("summary/status.parquet", os.mkfifo),
    "device for table": instead("summary/status.parquet", lambda path: path.symlink_to("/dev/zero")),
    "deep manifest": lambda run: (run / MANIFEST).write_text("[" * 100_000) and None,
    "list": lambda run: (run / MANIFEST).write_text("[]") and None,
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_hostile_run_folder_is_refused(home: Path, name: str) -> None:
    run = saved_run(home.parent / "run", Model(), draws=4).path
    FOLDERS[name](run)
    for command in ("export", "report"):
        refused(command, run, codes=(2,))
    assert not (run / "report.html").exists()


def test_there_are_many() -> None:
    assert len(OVERRIDES) + len(YAMLS) + len(TABLES) + len(FOLDERS) >= 120
