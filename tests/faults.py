"""What the page of faults (``faults.md`` beside this file) asks for: `make faults` prints it.

A test names the faults that it shows to be survived with ``@pytest.mark.fault(7)``. (tests/unit/test_faults_page.py)
"""

from __future__ import annotations

import re
from pathlib import Path

from steno.tests.pages import Check, Page

PAGE = Path(__file__).with_suffix(".md")

_ROW = re.compile(r"\| (\d+) \| ([^|]+) \| ([^|]+) \|")


def faults(text: str) -> Page:
    """The page of faults with this text: a check for each row of its table."""
    rows = [row for row in map(_ROW.fullmatch, text.splitlines()) if row is not None]
    found = {row[1]: Check(row[1], row[2]) for row in rows}
    return Page("faults", "fault", PAGE, found, list(found), whole=True)
