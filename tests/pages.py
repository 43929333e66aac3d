"""Pages of checks, and whether the tests of a run show what they ask for.

A page is the only list of its checks: a test names those that it shows with the page's marker, and a command prints
the page with the tests and their results (`tests.acceptance`, `tests.faults`; tests/unit/test_acceptance.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

Result = Literal["passed", "failed", "missing", "skipped", "not run"]

_WORDS = 70


class Check(msgspec.Struct, frozen=True):
    """One check of a page."""

    id: str
    text: str

    @property
    def opening(self) -> str:
        """Its first words."""
        return self.text if len(self.text) <= _WORDS else self.text[: self.text.rindex(" ", 0, _WORDS)] + " …"


class Outcome(msgspec.Struct, frozen=True):
    """What became of one test; of several runs of one function, each is an outcome."""

    test: str
    result: Result
    reason: str = ""


Outcomes = Mapping[str, Sequence[Outcome]]


class Page(msgspec.Struct, frozen=True):
    """A page of checks. ``name`` is the option that prints it, ``marker`` what a test names its checks with.

    ``wanted`` are the ids that a run must show; ``ruled_out`` those that it need not, each with the reason.
    ``whole``: a test that was skipped shows nothing even where another one passed.
    """

    name: str
    marker: str
    file: Path
    checks: dict[str, Check]
    wanted: list[str]
    ruled_out: dict[str, str] = {}
    whole: bool = False

    def verdict(self, outcomes: Sequence[Outcome]) -> str:
        """What the tests of one check come to: one that passed and none that failed show it."""
        results = {outcome.result for outcome in outcomes}
        last = ("skipped", "passed") if self.whole else ("passed", "skipped")
        for result in ("failed", "missing", "not run", *last):
            if result in results:
                return result
        return "NO TEST"

    def unshown(self, outcomes: Outcomes) -> dict[str, str]:
        """The checks that should be shown and are not, with their verdicts."""
        verdicts = {name: self.verdict(outcomes.get(name, ())) for name in self.wanted}
        return {name: each for name, each in verdicts.items() if each != "passed"}

    def report(self, outcomes: Outcomes) -> Iterator[str]:
        """The page as a run showed it: each check, below it its tests with their results, and at the end the sum."""
        for each in self.checks.values():
            if each.id in self.wanted or outcomes.get(each.id):
                yield f"{each.id:<7} {each.opening:<{_WORDS + 2}}  {self.verdict(outcomes.get(each.id, ()))}"
                yield from (f"        {line}" for line in _tests(outcomes.get(each.id, ())))
        yield from (f"{name:<7} ruled out: {decision}" for name, decision in self.ruled_out.items())
        missing = self.unshown(outcomes)
        yield f"{len(self.wanted) - len(missing)} of {len(self.wanted)} {self.marker}s are shown"
        for kind in dict.fromkeys(missing.values()):
            yield f"{kind}: {', '.join(name for name, each in missing.items() if each == kind)}"


def _tests(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A line for each function and result: its runs with several parameters are counted."""
    counts: dict[Outcome, int] = {}
    for outcome in outcomes:
        function = msgspec.structs.replace(outcome, test=outcome.test.partition("[")[0])
        counts[function] = counts.get(function, 0) + 1
    for outcome, count in counts.items():
        times = f" ({count})" if count > 1 else ""
        yield f"{outcome.test}{times}  {outcome.result}{': ' if outcome.reason else ''}{outcome.reason}"
