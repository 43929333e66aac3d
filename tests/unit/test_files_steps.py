from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

_PROGRAM = "from steno.storage.steps import step\nfor n in (1, 2, 3): step('here'); print(n, flush=True)"


def _run(kill_at: str) -> tuple[int, str]:
    environment = {**os.environ, "STENO_KILL_AT": kill_at}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("kill_at", "code", "printed"),
    [
        ("", 0, "1\n2\n3\n"),
        ("elsewhere", 0, "1\n2\n3\n"),
        ("here", -signal.SIGKILL, ""),
        ("here:3", -signal.SIGKILL, "1\n2\n"),
    ],
)
def test_a_process_dies_at_the_passage_that_was_named(kill_at: str, code: int, printed: str) -> None:
    assert _run(kill_at) == (code, printed)
