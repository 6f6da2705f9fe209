"""The browser in which tests look at pages."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

__all__ = ["CHROMIUM", "Opened", "opened"]

CHROMIUM = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
"""Its program, None where there is none."""

PROBE = """<script>
const wrong = [];
addEventListener("error", (event) => wrong.push(String(event.message || event.target.src)), true);
for (const kind of ["error", "warn"]) console[kind] = (...words) => wrong.push(words.join(" "));
addEventListener("load", () => {
  const answer = document.createElement("pre");
  const requests = performance.getEntriesByType("resource").map((one) => one.name);
  // Asking for a height lays the page out.
  const height = document.body.offsetHeight;
  answer.id = "answer";
  answer.textContent = JSON.stringify({ seconds: performance.now() / 1000, height, errors: wrong, requests });
  document.body.append(answer);
});
</script>"""


class Opened(NamedTuple):
    """A page that was opened."""

    seconds: float
    """From the start of its navigation until it was drawn and laid out."""
    height: float
    errors: list[str]
    requests: list[str]
    """What it asked for beside itself."""


def opened(page: Path) -> Opened:
    """Opens a page beside which nothing can be reached."""
    probe = page.with_name(f"probe-{page.name}")
    probe.write_text(page.read_text("utf-8").replace("<head>", "<head>" + PROBE, 1), "utf-8")
    done = _run("--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", probe.as_uri())
    probe.unlink()
    answer = re.search(r'<pre id="answer">(.*?)</pre>', done, re.DOTALL)
    assert answer is not None, "the page was not drawn"
    return Opened(**json.loads(html.unescape(answer.group(1))))


def photographed(page: Path, picture: Path, *, width: int, height: int) -> Path:
    """A picture (PNG) of a page in a window of this size."""
    _run(f"--window-size={width},{height}", f"--screenshot={picture}", "--hide-scrollbars", page.as_uri())
    return picture


def _run(*options: str) -> str:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
