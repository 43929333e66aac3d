"""What the acceptance page (``acceptance.md`` beside this file) asks for: `make acceptance` prints it.

A test names the checks that it shows with ``@pytest.mark.check("MDB-13")``. (tests/unit/test_acceptance.py)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from steno.tests.pages import Check, Page

PAGE = Path(__file__).with_suffix(".md")

# What the library, its stores and the command line must show; the other checks of the page are printed where they have
# tests: those of Zep's own clients, and of sharing with a team and signing in, which are not built yet.
SECTIONS = ("MDB", "COD", "PYA")
ALSO = (
    *(f"ZEP-{number}" for number in (4, 6, 7, 9, 10, 11, 12, 16, 17, 21)),
    *(f"AIN-{number}" for number in range(1, 55) if number not in (18, 49, 50)),
)

# What need not be shown, each with the words of the decision on the page.
RULED_OUT: dict[str, str] = dict.fromkeys(("COD-31", "COD-34", "COD-36"), "There is no COD-31, 34, 36.")

_SECTION = re.compile(r"## ([A-Z]{3}): ")
_FIRST = re.compile(r"(\d+)\. ")
_FURTHER = re.compile(r"(?<= )(\d+)\. (?=\[[DSF]\])")
_MARKS = re.compile(r"\[[DSF]\] ?")


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
            found[f"{section}-{number}"] = Check(f"{section}-{number}", _MARKS.sub("", text))
            last = number
    return found


def to_show(page: Mapping[str, Check]) -> list[str]:
    """The ids that a run must show, in the page's order."""
    return [name for name in page if _asked(name) and name not in RULED_OUT]


def acceptance(text: str) -> Page:
    """The acceptance page with this text."""
    found = checks(text)
    return Page("acceptance", "check", PAGE, found, to_show(found), RULED_OUT)


def _numbered(line: str) -> Iterator[tuple[int, str]]:
    """The numbers and texts of a line: one begins it, those behind it have a mark, so that prose is no check."""
    first = _FIRST.match(line)
    if first is None:
        return
    starts = [first, *_FURTHER.finditer(line, first.end())]
    ends = [start.start() for start in starts[1:]] + [len(line)]
    for start, end in zip(starts, ends, strict=True):
        yield int(start[1]), line[start.end() : end].strip()


def _asked(name: str) -> bool:
    return name.partition("-")[0] in SECTIONS or name in ALSO
