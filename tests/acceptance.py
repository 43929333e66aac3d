"""What the acceptance page asks for, and whether the tests of a run show it.

The page (``acceptance.md`` beside this file) is the only list of checks: a test names those that it shows with
``@pytest.mark.check("MDB-13")``, and ``make acceptance`` prints the page with the tests and their results.
(tests/unit/test_acceptance.py)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

PAGE = Path(__file__).with_suffix(".md")

# What the library and its stores must show; the other checks of the page are printed where they have tests.
SECTIONS = ("MDB", "COD", "PYA")
ALSO = tuple(f"ZEP-{number}" for number in (4, 6, 7, 9, 10, 11, 12, 16, 17, 21))

# What need not be shown, each with the words of the decision on the page.
RULED_OUT = dict.fromkeys(("COD-31", "COD-34", "COD-36"), "There is no COD-31, 34, 36.")

Result = Literal["passed", "failed", "skipped", "not run"]

_SECTION = re.compile(r"## ([A-Z]{3}): ")
_FIRST = re.compile(r"(\d+)\. ")
_FURTHER = re.compile(r"(?<= )(\d+)\. (?=\[[DSF]\])")
_MARKS = re.compile(r"\[[DSF]\] ?")
_WORDS = 70


class Check(msgspec.Struct, frozen=True):
    """One check of the page."""

    id: str
    text: str

    @property
    def section(self) -> str:
        """The list it stands in."""
        return self.id.partition("-")[0]

    @property
    def opening(self) -> str:
        """Its first words, without its marks."""
        text = _MARKS.sub("", self.text)
        return text if len(text) <= _WORDS else text[: text.rindex(" ", 0, _WORDS)] + " …"


class Outcome(msgspec.Struct, frozen=True):
    """What became of one test; of several runs of one function, each is an outcome."""

    test: str
    result: Result
    reason: str = ""


def checks(page: str) -> dict[str, Check]:
    """The checks of a page by their ids, in its order. A line may hold several; ids in a section must increase."""
    found: dict[str, Check] = {}
    section, last = "", 0
    for line in page.splitlines():
        if line.startswith("## "):
            heading = _SECTION.match(line)
            section, last = heading[1] if heading else "", 0
        for number, text in _numbered(line) if section else ():
            if number <= last:
                raise ValueError(f"{section}-{number} stands behind {section}-{last}")
            found[f"{section}-{number}"] = Check(f"{section}-{number}", text)
            last = number
    return found


def to_show(page: Mapping[str, Check]) -> list[str]:
    """The ids that a run must show, in the page's order."""
    return [each.id for each in page.values() if _asked(each) and each.id not in RULED_OUT]


def verdict(outcomes: Sequence[Outcome]) -> str:
    """What the tests of one check come to: one that passed and none that failed show it."""
    results = {outcome.result for outcome in outcomes}
    for result in ("failed", "not run", "passed", "skipped"):
        if result in results:
            return result
    return "NO TEST"


def unshown(page: Mapping[str, Check], outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, str]:
    """The checks that should be shown and are not, with their verdicts."""
    verdicts = {name: verdict(outcomes.get(name, ())) for name in to_show(page)}
    return {name: each for name, each in verdicts.items() if each != "passed"}


def report(page: Mapping[str, Check], outcomes: Mapping[str, Sequence[Outcome]]) -> Iterator[str]:
    """The page as a run showed it: each check, below it its tests with their results, and at the end the sum."""
    wanted = to_show(page)
    for each in page.values():
        if each.id in wanted or outcomes.get(each.id):
            yield f"{each.id:<7} {each.opening:<{_WORDS + 2}}  {verdict(outcomes.get(each.id, ()))}"
            yield from (f"        {line}" for line in _tests(outcomes.get(each.id, ())))
    yield from (f"{name:<7} ruled out: {decision}" for name, decision in RULED_OUT.items())
    missing = unshown(page, outcomes)
    yield f"{len(wanted) - len(missing)} of {len(wanted)} checks are shown"
    for kind in dict.fromkeys(missing.values()):
        yield f"{kind}: {', '.join(name for name, each in missing.items() if each == kind)}"


def _numbered(line: str) -> Iterator[tuple[int, str]]:
    """The numbers and texts of a line: one begins it, those behind it have a mark, so that prose is no check."""
    first = _FIRST.match(line)
    if first is None:
        return
    starts = [first, *_FURTHER.finditer(line, first.end())]
    ends = [start.start() for start in starts[1:]] + [len(line)]
    for start, end in zip(starts, ends, strict=True):
        yield int(start[1]), line[start.end() : end].strip()


def _asked(check: Check) -> bool:
    return check.section in SECTIONS or check.id in ALSO


def _tests(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A line for each function and result: its runs with several parameters are counted."""
    counts: dict[Outcome, int] = {}
    for outcome in outcomes:
        function = msgspec.structs.replace(outcome, test=outcome.test.partition("[")[0])
        counts[function] = counts.get(function, 0) + 1
    for outcome, count in counts.items():
        times = f" ({count})" if count > 1 else ""
        yield f"{outcome.test}{times}  {outcome.result}{': ' if outcome.reason else ''}{outcome.reason}"
