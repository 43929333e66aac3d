"""What holds for every test: none of them touches the home of whoever runs it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what it starts in the background: then nothing that Ctrl-C ends could be tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test cuts the power, so none needs a disk: waiting for one took two thirds of their time.
_MEMORY = Path("/dev/shm")
if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

pytest_plugins = ("steno.tests.pages_plugin", "steno.tests.server_fixtures")

# A shared machine stalls now and then; pytest's time limit finds what hangs.
# Built on the profile in force, which under CI draws the same examples in each run.
hypothesis.settings.register_profile("steno", deadline=None)
hypothesis.settings.load_profile("steno")


@pytest.fixture(scope="session", autouse=True)
def _no_home_but_a_temporary_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("STENO_") and name != "STENO_REQUIRE_SERVERS"]:
            environment.delenv(name)
        environment.setenv("STENO_HOME", str(tmp_path_factory.mktemp("steno") / "home"))
        yield


@pytest.fixture(scope="session")
def short() -> Iterator[Path]:
    """A directory whose name leaves room for that of a Unix socket; in memory, as all that pytest makes."""
    made = Path(tempfile.mkdtemp(prefix="st", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
    yield made
    shutil.rmtree(made, ignore_errors=True)
