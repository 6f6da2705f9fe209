import gc
import os
import platform
import subprocess
import sys
from typing import Any

import pytest

from mixfleet.cli import entry


class InterruptedImport:
    """Ctrl-C while the command's code is loaded."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "mixfleet.cli.main":
            raise KeyboardInterrupt


def test_an_interruption_while_code_is_loaded_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "mixfleet.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [InterruptedImport(), *sys.meta_path])
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == entry.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
    assert gc.isenabled()


@pytest.mark.parametrize("wished", [None, "3"])
def test_products_of_matrices_start_no_threads_unless_the_user_wants_them(
    monkeypatch: pytest.MonkeyPatch, wished: str | None
) -> None:
    monkeypatch.setattr(sys, "meta_path", [InterruptedImport(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "mixfleet.cli.main", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", wished or "")
    if wished is None:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    with pytest.raises(SystemExit):
        entry.main()
    assert os.environ["OPENBLAS_NUM_THREADS"] == (wished or "1")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_freed_memory_is_kept_for_the_next_unit() -> None:
    code = (
        "import resource, sys, threading\n"
        "from mixfleet.cli import entry\n"
        "sys.modules['mixfleet.cli.main'] = None\n"
        "try: entry.main()\n"
        "except ImportError: pass\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(50): held = [bytearray(2**20) for _ in range(8)]; del held\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
        "threading.Thread(target=lambda: (faults(), faults())).start()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[1]) < 50 * 8


def test_the_command_loads_neither_its_slow_libraries_nor_numpy_before_its_settings() -> None:
    code = (
        "import sys, mixfleet.cli.entry\n"
        "assert 'numpy' not in sys.modules\n"
        "import mixfleet.cli.main\n"
        "sys.exit(', '.join({'scipy.stats', 'jax', 'pandas'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
