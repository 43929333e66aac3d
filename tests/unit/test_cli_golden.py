"""What `list`, `show` and `search` print for programs stays as tests/golden/cli has it: people's scripts rely on it.

A field may be added, there as well; none is taken away or gets another meaning.
`STENO_MAKE_GOLDEN=cli pytest tests/unit/test_cli_golden.py` writes them anew, and fails so that it is noticed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage import forks
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.unit.test_cli_sessions import Run, home, run

__all__ = ["home", "run"]

GOLDEN = Path(__file__).parents[1] / "golden" / "cli"
ANEW = os.environ.get("STENO_MAKE_GOLDEN") == GOLDEN.name
NOW_MS = 1_705_314_600_000


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    """A session with all that a session may have, a bare one, and a fork."""
    with Store(home / "steno.db", now_ms=lambda: NOW_MS) as opened:
        opened.create(
            id="abc123def456", title="REST API", provider="anthropic", model="claude-3-5-sonnet-20241022",
            user_id="ada", tags=["go", "rest-api"], metadata={"project": "backend", "priority": "high"},
            state={"step": 2}, source={"tool": "claude-code"}, local_only=True,
        )  # fmt: skip
        opened.add_messages(
            "abc123def456",
            [
                NewMessage(id="m1", role="user", content="How do I create an API?", sender="ada", metadata={"a": 1}),
                NewMessage(
                    id="m2", role="assistant", content=[{"type": "text", "text": "With a router."}], parent="m1",
                    model="claude-3-5-sonnet-20241022", usage={"input_tokens": 12, "output_tokens": 80},
                    timestamp="2024-01-15T11:30:15+01:00",
                ),
            ],
        )  # fmt: skip
        opened.create(id="def789ghi012", created_ms=NOW_MS - 1000)
        forks.fork(opened, "abc123def456", at="m1", id="ghi345jkl678", title="A fork")
        opened.update("ghi345jkl678", fields={"status": "paused"})
        yield opened


def compared(name: str, printed: str) -> None:
    """Compare what was printed, byte by byte, with what is kept; or keep it, where that was asked for."""
    place = GOLDEN / f"{name}.json"
    if ANEW:
        place.write_text(printed, encoding="utf-8")
        pytest.fail(f"{place.name} is written anew")
    assert printed == place.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("list", ("list",)),
        ("page", ("list", "--limit", "1", "--cursor", "")),
        ("show", ("show", "abc123def456")),
        ("show-summary", ("show", "abc123def456", "--summary")),
        ("show-part", ("show", "abc123def456", "--last", "1")),
    ],
)
def test_what_is_printed_for_programs_stays_as_it_is(
    run: Run, store: Store, name: str, arguments: tuple[str, ...]
) -> None:
    compared(name, run(*arguments, "--json").out)


def test_what_is_found_stays_as_it_is_but_for_how_it_is_weighed(run: Run, store: Store) -> None:
    printed = run("search", "api", "--limit", "3", "--json").out
    compared("search", re.sub(r'(?<="relevance_score": )[0-9][0-9.e-]*', "1.0", printed))
