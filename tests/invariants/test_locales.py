"""The same answers as another locale writes numbers: pages, slides and sentences; tables and files stay as they are."""

import io
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mixfleet.config import LOCALES, Model
from mixfleet.reporting.numbers import Wording
from mixfleet.run import Run
from tests.support.browser import CHROMIUM
from tests.support.saved_run import saved_run

ENGLISH = re.compile(r"(?<![\w.])\d+\.\d|(?<![\w,])\d{1,3},\d{3}(?!\d)|\d%")
"""A decimal point, a comma between thousands, and a per cent sign without its space."""


class _Text(HTMLParser):
    """What a reader sees of a page, but for its code, and for the sections on where its numbers come from."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style", "code") or dict(attrs).get("id") == "provenance" or self._hidden:
            self._hidden += [tag] if tag not in ("input", "br", "meta", "link") else []

    def handle_endtag(self, tag: str) -> None:
        if self._hidden and self._hidden[-1] == tag:
            self._hidden.pop()

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.texts.append(data)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The same run, once as it is and once with German numbers."""
    folders = [tmp_path_factory.mktemp(name) for name in ("english", "german")]
    english, german = (saved_run(folder, Model(window=5)) for folder in folders)
    return english, german.keep(locale="de-DE")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_page_has_no_english_number(runs: tuple[Run, Run]) -> None:
    seen = []
    for run in runs:
        page = run.report()
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
        seen.append(
            _Text(subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout).texts
        )
    english, german = seen
    assert len(english) == len(german)
    assert sum(bool(ENGLISH.search(text)) for text in english) > 50
    assert [text for text in german if ENGLISH.search(text)] == []
    assert sum(bool(re.search(r"\d,\d", text)) for text in german) > 50


def test_sentences_and_slides_have_no_english_number(runs: tuple[Run, Run]) -> None:
    presentation = pytest.importorskip("pptx").Presentation
    english, german = (run.summary().lines() for run in runs)
    assert english != german
    assert [line for line in german if ENGLISH.search(line)] == []
    deck = presentation(io.BytesIO(runs[1].slides().read_bytes()))
    frames = [shape.text_frame for slide in deck.slides for shape in slide.shapes if shape.has_text_frame]
    assert [frame.text for frame in frames if ENGLISH.search(frame.text)] == []


def test_tables_and_files_are_the_same(runs: tuple[Run, Run], tmp_path: Path) -> None:
    files = [run.export(tmp_path / name, "csv") for run, name in zip(runs, ("english", "german"), strict=True)]
    assert len(files[0]) == len(files[1]) > 20
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_the_marks_are_those_of_unicode() -> None:
    babel = pytest.importorskip("babel")
    numbers = pytest.importorskip("babel.numbers")
    for name, locale in LOCALES.items():
        if name == "en":
            continue
        own = babel.Locale.parse(name)
        assert locale.decimal == numbers.get_decimal_symbol(own), name
        assert locale.group == numbers.get_group_symbol(own), name
        assert own.percent_formats[None].pattern.endswith(f"0{locale.percent}"), name
        assert own.currency_formats["standard"].pattern.startswith("\u00a4") == locale.currency_first, name


SAID = {
    "Media brought 1.2m EUR, 41 % of it; 90 %: 1.1m to 1.3m EUR.": {
        "de_DE": "Media brought 1,2m EUR, 41\u00a0% of it; 90\u00a0%: 1,1m to 1,3m EUR.",
        "en_US": "Media brought EUR\u00a01.2m, 41% of it; 90%: EUR\u00a01.1m to 1.3m.",
    },
    "1,234 units, R-hat 1.034, -3.1 or 1.2e-05": {
        "fr_FR": "1\u202f234 units, R-hat 1,034, -3,1 or 1,2e-05",
        "de_CH": "1'234 units, R-hat 1.034, -3.1 or 1.2e-05",
    },
    "tv 2.0 of 2026-01-05, version 0.9.1, `budget.change=0.1` and change=0.3": {
        "de_DE": "tv 2.0 of 2026-01-05, version 0.9.1, `budget.change=0.1` and change=0.3"
    },
}


@pytest.mark.parametrize("text", SAID)
def test_a_sentence_keeps_names_dates_and_settings(text: str) -> None:
    for name, expected in SAID[text].items():
        say = Wording(locale=LOCALES[name], currency="EUR", names=frozenset({"tv 2.0", "1"}))
        assert say(text) == expected
    assert Wording(locale=LOCALES["en"])(text) == text
