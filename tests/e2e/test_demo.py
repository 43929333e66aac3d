"""``steno demo`` shows two devices, ends well in time, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from steno.tests.e2e.device import until

WITHIN_S = 30.0


class Shown(NamedTuple):
    code: int
    out: str
    err: str
    took_s: float
    left: list[str]
    home: Path


@pytest.fixture(scope="module")
def demo(short: Path) -> Shown:
    """The demo, run once in a temporary directory of its own and beside a home that is in use."""
    temporary, home = short / "tmp", short / "home of somebody"
    temporary.mkdir()
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "steno.cli.main", "demo"],
        env={**os.environ, "TMPDIR": str(temporary), "STENO_HOME": str(home)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    took_s = time.monotonic() - began
    return Shown(done.returncode, done.stdout, done.stderr, took_s, [str(path) for path in temporary.iterdir()], home)


def test_the_demo_ends_well(demo: Shown):
    assert demo.code == 0, demo.out + demo.err
    assert demo.err == ""
    assert "Both devices are equal" in demo.out


def test_the_demo_ends_in_half_a_minute(demo: Shown):
    assert demo.took_s < WITHIN_S


def test_the_demo_leaves_nothing_behind(demo: Shown):
    assert demo.left == []
    assert not demo.home.exists()
    until(lambda: not _daemons_below(demo.home.parent), "both daemons have ended")


def test_the_demo_shows_each_step_with_its_time(demo: Shown):
    for words in ("steno import", "a hand edit of the JSONL file", "both offline", "both online again"):
        assert words in demo.out
    assert demo.out.count("after ") >= 3


def test_the_demo_shows_that_nothing_concurrent_was_lost(demo: Shown):
    for words in ("ticket", "reviewer", "api", "backend", "Pagination of orders", "Cursor or offset?"):
        assert words in demo.out


def _daemons_below(folder: Path) -> list[str]:
    """The processes whose home lies below a directory (Linux; elsewhere nobody tells)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"STENO_HOME={folder}/tmp".encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found
