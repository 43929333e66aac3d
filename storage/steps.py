"""Named points at which a test may kill this process: between two writes, not after a sleep.

``STENO_KILL_AT=name`` ends the process by SIGKILL when it first passes ``step("name")``,
``STENO_KILL_AT=name:3`` when it passes the third time. Without it a step does nothing
(tests/unit/test_files_steps.py).
"""

from __future__ import annotations

import itertools
import os
import signal

_NAME, _, _NTH = os.environ.get("STENO_KILL_AT", "").partition(":")
_passages = itertools.count(1)


def step(name: str) -> None:
    """Pass the point of this name; die here if the environment says so."""
    if name == _NAME and next(_passages) == int(_NTH or 1):
        os.kill(os.getpid(), signal.SIGKILL)
