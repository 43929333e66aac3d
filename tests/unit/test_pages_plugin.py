"""Real runs of pytest with the plugin of the pages, over tests made for the purpose."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steno.tests.acceptance import PAGE, checks, to_show
from steno.tests.faults import PAGE as FAULTS
from steno.tests.faults import faults

PYTEST = Path(sys.executable).with_name("pytest")
EVERY = ", ".join(f'"{name}"' for name in to_show(checks(PAGE.read_text(encoding="utf-8"))))

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -p no:cacheprovider\n")

    def done(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_made.py").write_text(f"import pytest\n\n{body}\n")
        command = [str(PYTEST), "-p", "steno.tests.pages_plugin", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return done


def _marked(ids: str, body: str = "pass") -> str:
    return f"@pytest.mark.check({ids})\ndef test_made():\n    {body}\n"


def test_a_run_that_shows_every_check_succeeds(run: Run):
    done = run(_marked(EVERY), "--acceptance")
    assert (done.returncode, "147 of 147 checks are shown" in done.stdout) == (0, True), done.stdout


def test_a_check_without_a_test_fails_the_run(run: Run):
    done = run(_marked(EVERY.replace('"MDB-13", ', "")), "--acceptance")
    assert (done.returncode, "NO TEST: MDB-13" in done.stdout) == (1, True), done.stdout


def test_checks_whose_only_test_is_skipped_fail_the_run(run: Run):
    done = run(_marked(EVERY, 'pytest.skip("no server here")'), "--acceptance")
    assert (done.returncode, "test_made.py::test_made  skipped: no server here" in done.stdout) == (1, True)


def test_a_test_that_is_expected_to_fail_shows_nothing(run: Run):
    done = run(f"@pytest.mark.xfail(reason='not built')\n{_marked(EVERY, 'raise ValueError')}", "--acceptance")
    assert (done.returncode, "test_made.py::test_made  missing: not built" in done.stdout) == (1, True), done.stdout


def test_a_fixture_that_fails_behind_the_test_fails_the_check(run: Run):
    fixture = "@pytest.fixture(autouse=True)\ndef _broken():\n    yield\n    raise ValueError\n\n"
    done = run(fixture + _marked('"MDB-1"'), "--acceptance")
    assert "test_made.py::test_made  failed: in teardown" in done.stdout


def test_a_run_of_no_tests_at_all_fails(run: Run):
    assert run("", "--acceptance").returncode == 1


def test_a_check_that_is_not_on_the_page_stops_every_run(run: Run):
    done = run(_marked('"MDB-1", "MDB-99"'))
    said = "ERROR: test_made.py::test_made: no such check in acceptance.md: MDB-99"
    assert (done.returncode, said in done.stderr.splitlines()) == (4, True)


def test_a_marker_without_ids_stops_every_run(run: Run):
    done = run(_marked(""))
    assert (done.returncode, "a marker without ids" in done.stderr) == (4, True)


def test_without_being_asked_nothing_is_printed_or_demanded(run: Run):
    done = run(_marked('"MDB-1"'))
    assert (done.returncode, "MDB" in done.stdout) == (0, False)


def test_what_a_test_shows_is_told_where_other_processes_run_it(run: Run):
    done = run(_marked(EVERY), "--acceptance", "-p", "xdist", "-n", "1")
    assert (done.returncode, "147 of 147 checks are shown" in done.stdout) == (0, True), done.stdout


def test_a_fault_is_shown_only_where_none_of_its_tests_is_skipped(run: Run):
    rows = ", ".join(faults(FAULTS.read_text(encoding="utf-8")).checks)
    skipped = "@pytest.mark.fault(7)\ndef test_further():\n    pytest.skip('no server here')\n"
    done = run(f"@pytest.mark.fault({rows})\ndef test_made():\n    pass\n\n\n{skipped}", "--faults")
    assert (done.returncode, done.stdout.splitlines()[-3:-1]) == (1, ["43 of 44 faults are shown", "skipped: 7"])
