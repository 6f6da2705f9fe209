"""The report in a browser, for readers with a keyboard, a phone, little contrast or a screen reader."""

import html
import json
import re
import subprocess
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixfleet.config import Model
from mixfleet.data.panel import Panel
from tests.support.browser import CHROMIUM
from tests.support.saved_run import panel, saved_run

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")

ASKED = """
window.addEventListener("load", () => setTimeout(async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  const kinds = found.violations.map((one) => [one.impact, one.id, one.nodes.slice(0, 3).map((node) => node.html)]);
  const width = [window.innerWidth, document.documentElement.scrollWidth];
  const answer = document.createElement("pre");
  answer.id = "answer";
  answer.textContent = JSON.stringify({ kinds, width });
  document.body.append(answer);
}, 500));
"""


def looked_at(page: Path, width: int) -> dict[str, Any]:
    """What axe-core finds in the page, and how wide window and page are."""
    axe = (resources.files("axe_core_python") / "axe.min.js").read_text("utf-8").replace("</script>", "<\\/script>")
    text = page.read_text("utf-8")
    probe = page.with_name(f"probe-{width}.html")
    probe.write_text(text.replace("</body>", f"<script>{axe}</script><script>{ASKED}</script></body>"), "utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},1500"]
    command += ["--virtual-time-budget=30000", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    answer = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
    assert answer is not None, done.stderr[-2000:]
    return json.loads(html.unescape(answer.group(1)))


def without_spend(made: Panel) -> Panel:
    return replace(made, units=tuple(replace(unit, spend=np.full_like(unit.spend, np.nan)) for unit in made.units))


def many(units: int) -> Panel:
    kinds = ("ok", "ok", "ok_warn", "misfit", "quarantined", "rejected")
    return panel(statuses={(f"brand{i // 20:02d}", f"market {i % 20:02d}"): kinds[i % 6] for i in range(units)})


PAGES = {
    "six": panel(),
    "one": panel(statuses={("acme", "DE"): "ok"}),
    "without spend": without_spend(panel()),
    "forty markets": many(120),
    "three hundred": many(300),
}


SOME = [pytest.param(name, marks=pytest.mark.nightly) if place else name for place, name in enumerate(PAGES)]


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", SOME)
def test_a_page_has_no_barrier_and_fits_its_window(tmp_path: Path, name: str, width: int) -> None:
    run = saved_run(tmp_path, Model(window=5), of=PAGES[name])
    found = looked_at(run.report(), width)
    assert found["kinds"] == []
    window, page = found["width"]
    assert page <= window
