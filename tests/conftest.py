"""What holds for every test: none of them touches the home of whoever runs it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what it starts in the background: then nothing that Ctrl-C ends could be tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ("steno.tests.acceptance_plugin", "steno.tests.server_fixtures")

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
