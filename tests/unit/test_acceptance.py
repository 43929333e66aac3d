"""The acceptance page is read whole, and its checks are shown by nothing but tests that passed."""

from __future__ import annotations

import pytest

from steno.tests.acceptance import PAGE, RULED_OUT, acceptance, checks, to_show
from steno.tests.pages import Check, Outcome

PASSED, FAILED = Outcome("t.py::test_a", "passed"), Outcome("t.py::test_b", "failed")
SKIPPED = Outcome("t.py::test_c", "skipped", "redis-server is not installed")


@pytest.fixture(scope="module")
def page() -> dict[str, Check]:
    return checks(PAGE.read_text(encoding="utf-8"))


def test_each_numbered_line_of_a_section_is_a_check():
    assert checks("## MDB: M\n1. [D] One.\n2. Two.") == {
        "MDB-1": Check("MDB-1", "One."),
        "MDB-2": Check("MDB-2", "Two."),
    }


def test_a_line_may_hold_several_checks():
    found = checks("## AIN: A\n13. [D] One. 14. [D][F] Two. 15. [S] Three.")
    assert [(each.id, each.text) for each in found.values()] == [
        ("AIN-13", "One."),
        ("AIN-14", "Two."),
        ("AIN-15", "Three."),
    ]


def test_a_number_in_a_sentence_begins_no_check():
    assert list(checks("## MDB: M\n2. [D] After item 1. The kind is 3. and `4. [D]`.")) == ["MDB-2"]


def test_subheadings_and_numbers_outside_a_list_are_no_checks():
    assert list(checks("1. [D] Before.\n## COD: C\nDocument API\n1. [D] In.\n## Notes\n2. [D] Behind.")) == ["COD-1"]


def test_each_list_counts_for_itself():
    assert list(checks("## MDB: M\n1. [D] One.\n## COD: C\n1. [D] One.")) == ["MDB-1", "COD-1"]


def test_a_number_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="MDB-2 stands behind MDB-2"):
        checks("## MDB: M\n2. [D] One.\n2. [D] Two.")


@pytest.mark.parametrize(("section", "last"), [("MDB", 31), ("COD", 38), ("ZEP", 21), ("PYA", 20), ("AIN", 54)])
def test_the_page_is_read_without_a_gap_but_those_that_it_names(page: dict[str, Check], section: str, last: int):
    numbered = {f"{section}-{number}" for number in range(1, last + 1)}
    assert {name for name in page if name.startswith(section)} == numbered - set(RULED_OUT)


def test_what_is_ruled_out_is_decided_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    assert all(decision in text for decision in RULED_OUT.values())


def test_what_must_be_shown_is_the_library_the_model_under_zep_and_the_command_line(page: dict[str, Check]):
    wanted = to_show(page)
    assert len(wanted) == 31 + 35 + 20 + 10 + 51
    assert {name for name in wanted if name.startswith("ZEP")} >= {"ZEP-4", "ZEP-9", "ZEP-21"}


def test_a_check_opens_with_its_first_words():
    assert Check("MDB-1", "word " * 40).opening == " ".join(["word"] * 14) + " …"


def test_a_short_check_is_printed_whole():
    assert Check("MDB-1", "One.").opening == "One."


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        ([], "NO TEST"),
        ([PASSED], "passed"),
        ([PASSED, FAILED], "failed"),
        ([PASSED, SKIPPED], "passed"),
        ([SKIPPED], "skipped"),
        ([SKIPPED, FAILED], "failed"),
        ([PASSED, Outcome("t.py::test_e", "missing", "not built")], "missing"),
        ([PASSED, Outcome("t.py::test_d", "not run")], "not run"),
    ],
)
def test_a_check_is_shown_by_a_test_that_passed_and_none_that_failed(outcomes: list[Outcome], found: str):
    assert acceptance("").verdict(outcomes) == found


def test_a_check_whose_tests_are_all_skipped_is_not_shown():
    page = acceptance("## MDB: M\n1. [D] One.\n2. [D] Two.\n## ZEP: Z\n1. [D] Three.")
    assert page.unshown({"MDB-1": [PASSED], "MDB-2": [SKIPPED]}) == {"MDB-2": "skipped"}


def test_the_report_names_each_test_and_its_result():
    page = acceptance("## MDB: M\n1. [D] One.\n2. [D] Two.\n## ZEP: Z\n1. [D] Three.\n2. [D] Four.")
    runs = [Outcome(f"t.py::test_a[{store}]", "passed") for store in ("memory", "sqlite")]
    lines = list(page.report({"MDB-1": [*runs, SKIPPED], "ZEP-2": [FAILED]}))
    assert [" ".join(line.split()) for line in lines if "ruled out" not in line] == [
        "MDB-1 One. passed",
        "t.py::test_a (2) passed",
        "t.py::test_c skipped: redis-server is not installed",
        "MDB-2 Two. NO TEST",
        "ZEP-2 Four. failed",
        "t.py::test_b failed",
        "1 of 2 checks are shown",
        "NO TEST: MDB-2",
    ]


def test_the_report_says_what_was_ruled_out():
    lines = list(acceptance("## MDB: M\n1. [D] One.").report({}))
    assert "COD-31  ruled out: There is no COD-31, 34, 36." in lines
