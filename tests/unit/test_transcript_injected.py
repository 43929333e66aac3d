from __future__ import annotations

import pytest

from steno.storage.model import automatic_title, plain_text
from steno.storage.transcripts.injected import kind_of, separated


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<command-name>/init</command-name>", "command-name"),
        ("  <system-reminder>be brief</system-reminder>", "system-reminder"),
        ("<permissions instructions>ask</permissions instructions>", "permissions instructions"),
        ("# AGENTS.md instructions for /src", "agents-md"),
        ("[Request interrupted by user for tool use]", "interrupted"),
        ("<div>why is this not centred?</div>", None),
        ("List<String> is not a type here", None),
        ("", None),
    ],
)
def test_only_the_known_envelopes_are_injected_text(text: str, kind: str | None) -> None:
    assert kind_of(text) == kind


def test_a_prompt_behind_a_reminder_is_the_title() -> None:
    given = "<ide_opened_file>src/a.py is open</ide_opened_file>\nWhy does this fail?"
    content, kind = separated(given)
    assert kind is None
    assert automatic_title(content) == "Why does this fail?"


def test_separating_a_text_loses_nothing_of_it() -> None:
    given = "<system-reminder>a</system-reminder>\n<system-reminder>b</system-reminder>\n\nAnd now?\n"
    content, _ = separated(given)
    assert isinstance(content, list)
    assert "".join(block["text"] for block in content) == given
    assert plain_text(content) == "And now?\n"


def test_a_prompt_in_a_block_of_its_own_stands_out_from_the_injected_blocks() -> None:
    image = {"type": "image", "source": {}}
    blocks = [{"type": "text", "text": "<ide_selection>x</ide_selection>"}, {"type": "text", "text": "Explain"}, image]
    content, kind = separated(blocks)
    assert kind is None
    assert plain_text(content) == "Explain"
    assert isinstance(content, list)
    assert content[2] is image


def test_what_the_editor_put_before_a_request_is_no_prompt() -> None:
    content, _ = separated(
        "# Context from my IDE setup:\n\n## Open tabs:\n- a.py\n\n## My request for Codex:\nAdd a test\n"
    )
    assert automatic_title(content) == "Add a test"


def test_an_envelope_that_is_never_closed_is_all_there_is() -> None:
    given = "<environment_context>\n  <cwd>/src</cwd>"
    assert separated(given) == (given, "environment_context")


def test_a_prompt_that_only_mentions_a_reminder_stays_as_it_is() -> None:
    given = "What does <system-reminder> mean?"
    assert separated(given) == (given, None)
