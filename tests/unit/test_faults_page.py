"""The page of faults is read whole, and each of its rows has a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.tests.faults import PAGE, faults
from steno.tests.pages import Page

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def page() -> Page:
    return faults(PAGE.read_text(encoding="utf-8"))


def _marked() -> Iterator[str]:
    """The rows that the tests name."""
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "mark.fault" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                yield from (ast.unparse(argument) for argument in node.args)


def test_the_rows_are_numbered_without_a_gap(page: Page):
    assert list(page.checks) == [str(number) for number in range(1, 45)]


def test_each_row_has_a_test_and_each_mark_a_row(page: Page):
    assert set(_marked()) == set(page.checks)


def test_no_test_of_a_row_is_expected_to_fail():
    found = [
        node.name
        for path in TESTS.rglob("test_*.py")
        if "mark.fault" in (text := path.read_text(encoding="utf-8")) and "xfail" in text
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and {"pytest.mark.fault", "pytest.mark.xfail"}
        <= {ast.unparse(each).partition("(")[0] for each in node.decorator_list}
    ]
    assert found == []


def test_all_rows_must_be_shown(page: Page):
    assert page.wanted == list(page.checks)


def test_a_row_says_what_happens():
    [row] = faults("| # | fault | what happens |\n|---|---|---|\n| 7 | a bit flips | it is seen |").checks.values()
    assert (row.id, row.opening) == ("7", "a bit flips")
