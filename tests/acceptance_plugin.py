"""The marker ``check``, and the page of checks at the end of ``pytest --acceptance``.

A marker that names no check of the page stops every run, so a slip of the pen shows nothing
falsely. (tests/unit/test_acceptance_plugin.py)
"""

from __future__ import annotations

import pytest

from steno.tests.acceptance import PAGE, Check, Outcome, checks, report, unshown


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare ``--acceptance``."""
    parser.addoption(
        "--acceptance",
        action="store_true",
        help="print the acceptance page with the tests of each check, and demand them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and the collector where it is asked for."""
    config.addinivalue_line("markers", 'check(*ids): shows these checks of tests/acceptance.md, as in check("MDB-13")')
    config.pluginmanager.register(
        _Marks(checks(PAGE.read_text(encoding="utf-8")), asked=bool(config.getoption("acceptance")))
    )


class _Marks:
    """Which checks the tests of this run name, and what became of them."""

    def __init__(self, page: dict[str, Check], *, asked: bool) -> None:
        self._page, self._asked = page, asked
        self._ids: dict[str, list[str]] = {}
        self._outcomes: dict[str, Outcome] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Read the markers of all tests, before any is deselected; a wrong one is a usage error."""
        for item in items:
            marks = list(item.iter_markers("check"))
            ids = [name for mark in marks for name in mark.args]
            wrong = [str(name) for name in ids if name not in self._page]
            if wrong or any(not mark.args or mark.kwargs for mark in marks):
                said = ", ".join(wrong) or "a marker without ids"
                raise pytest.UsageError(f"{item.nodeid}: no such check in {PAGE.name}: {said}")
            self._ids[item.nodeid] = ids

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take note of the tests that will be run; pytest also calls this where the markers were refused."""
        for item in session.items:
            if self._ids.get(item.nodeid):
                self._outcomes[item.nodeid] = Outcome(item.nodeid, "not run")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst of a test's phases."""
        before = self._outcomes.get(report.nodeid)
        if before is not None and before.result != "failed":
            self._outcomes[report.nodeid] = _outcome(report) or before

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that does not show what it must."""
        if self._asked and unshown(self._page, self._by_check()) and session.exitstatus in _FINE:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the page."""
        if self._asked:
            terminalreporter.section("acceptance")
            for line in report(self._page, self._by_check()):
                terminalreporter.write_line(line)

    def _by_check(self) -> dict[str, list[Outcome]]:
        found: dict[str, list[Outcome]] = {}
        for nodeid, outcome in self._outcomes.items():
            for name in self._ids[nodeid]:
                found.setdefault(name, []).append(outcome)
        return found


_FINE = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def _outcome(report: pytest.TestReport) -> Outcome | None:
    """What a phase says of its test, if anything. A test that is expected to fail shows nothing."""
    if report.failed:
        return Outcome(report.nodeid, "failed", "" if report.when == "call" else f"in {report.when}")
    if hasattr(report, "wasxfail"):
        return Outcome(report.nodeid, "failed", "expected to fail")
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        return Outcome(report.nodeid, "skipped", reason.removeprefix("Skipped: "))
    return Outcome(report.nodeid, "passed") if report.when == "call" else None
