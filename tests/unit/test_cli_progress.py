"""What a person reads of a long sync."""

from __future__ import annotations

import msgspec
import pytest

from steno.cli.progress import far
from steno.sync.vault.progress import Progress


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Progress("receiving", 0, 240), "receiving 0 of 240 segments, 0 messages so far"),
        (
            Progress("receiving", 120, 240, 5_000_000, 45_000, 119.6),
            "receiving 120 of 240 segments, 45,000 messages so far; about 2 min left",
        ),
        (
            Progress("sending", 300_000, 1_000_000, 35_200_000, 0, 29.6),
            "sending 300,000 of 1,000,000 changes, 35.2 MB so far; about 30 s left",
        ),
        (
            Progress("sending", 1, 2, 0, 0, 9000.0),
            "sending 1 of 2 changes, 0.0 MB so far; about 2.5 h left",
        ),
    ],
)
def test_it_says_how_much_is_done_and_about_how_long_the_rest_takes(found: Progress, said: str):
    assert far(msgspec.to_builtins(found)) == said
