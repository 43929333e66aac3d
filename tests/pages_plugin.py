"""The markers ``check`` and ``fault``, and their pages at the end of ``pytest --acceptance`` and ``--faults``.

A marker that names nothing of its page stops every run, so a slip of the pen shows nothing
falsely. (tests/unit/test_pages_plugin.py)
"""

from __future__ import annotations

import pytest

from steno.tests import acceptance, faults
from steno.tests.pages import Outcome, Page


def pages() -> list[Page]:
    """The pages of checks."""
    return [
        acceptance.acceptance(acceptance.PAGE.read_text(encoding="utf-8")),
        faults.faults(faults.PAGE.read_text(encoding="utf-8")),
    ]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare ``--acceptance`` and ``--faults``."""
    for page in pages():
        said = f"print {page.file.name} with the tests of each {page.marker}, and demand them"
        parser.addoption(f"--{page.name}", action="store_true", help=said)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and a collector of what they name."""
    for page in pages():
        line = f"{page.marker}(*ids): shows these {page.marker}s of tests/{page.file.name}"
        config.addinivalue_line("markers", line)
        config.pluginmanager.register(_Marks(page, asked=bool(config.getoption(page.name))))


class _Marks:
    """Which checks of a page the tests of this run name, and what became of them."""

    def __init__(self, page: Page, *, asked: bool) -> None:
        self._page, self._asked = page, asked
        self._ids: dict[str, list[str]] = {}
        self._outcomes: dict[str, Outcome] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Read the markers of all tests, before any is deselected; a wrong one is a usage error.

        What they name travels with the reports, for where other processes run the tests.
        """
        for item in items:
            marks = list(item.iter_markers(self._page.marker))
            ids = [str(name) for mark in marks for name in mark.args]
            wrong = [name for name in ids if name not in self._page.checks]
            if wrong or any(not mark.args or mark.kwargs for mark in marks):
                said = ", ".join(wrong) or "a marker without ids"
                raise pytest.UsageError(f"{item.nodeid}: no such {self._page.marker} in {self._page.file.name}: {said}")
            item.user_properties += [(self._page.marker, name) for name in ids]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take note of the tests that will be run; pytest also calls this where the markers were refused."""
        for item in session.items:
            self._note(item.nodeid, item.user_properties)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst of a test's phases."""
        self._note(report.nodeid, report.user_properties)
        before = self._outcomes.get(report.nodeid)
        if before is not None and before.result != "failed":
            self._outcomes[report.nodeid] = _outcome(report) or before

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that does not show what it must."""
        if self._asked and self._page.unshown(self._by_check()) and session.exitstatus in _FINE:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the page."""
        if self._asked:
            terminalreporter.section(self._page.name)
            for line in self._page.report(self._by_check()):
                terminalreporter.write_line(line)

    def _note(self, nodeid: str, properties: list[tuple[str, object]]) -> None:
        ids = [str(value) for name, value in properties if name == self._page.marker]
        if ids and nodeid not in self._ids:
            self._ids[nodeid] = ids
            self._outcomes[nodeid] = Outcome(nodeid, "not run")

    def _by_check(self) -> dict[str, list[Outcome]]:
        found: dict[str, list[Outcome]] = {}
        for nodeid, outcome in self._outcomes.items():
            for name in self._ids[nodeid]:
                found.setdefault(name, []).append(outcome)
        return found


_FINE = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def _outcome(report: pytest.TestReport) -> Outcome | None:
    """What a phase says of its test, if anything. A test that is expected to fail shows what is missing."""
    if report.failed:
        return Outcome(report.nodeid, "failed", "" if report.when == "call" else f"in {report.when}")
    if hasattr(report, "wasxfail"):
        return Outcome(report.nodeid, "missing", report.wasxfail)
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        return Outcome(report.nodeid, "skipped", reason.removeprefix("Skipped: "))
    return Outcome(report.nodeid, "passed") if report.when == "call" else None
