"""Whatever is typed is answered: no traceback, an exit code of the table, nothing but data on standard output."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from steno.tests.e2e.arguments import VERBS, Room, room, tried

SHARES = 8
LINES = 250


@pytest.fixture(scope="module")
def place() -> Iterator[Room]:
    with room() as made:
        yield made


@pytest.mark.parametrize("share", range(SHARES))
def test_random_arguments_are_answered(share: int, place: Room) -> None:
    tried(list(VERBS)[share::SHARES], LINES, within=place)
