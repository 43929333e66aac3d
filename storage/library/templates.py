"""Ways to begin a session: an instruction, and metadata that says which one it was.

(tests/library/test_coda.py)
"""

from __future__ import annotations

import string
from collections.abc import Mapping

import msgspec

from ..errors import InvalidInput
from ..model import Json
from .session import Session


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """An instruction with ``{placeholders}``, and metadata besides the template's name."""

    system_prompt: str
    metadata: dict[str, Json] = {}


TEMPLATES: Mapping[str, Template] = {
    "code_review": Template(system_prompt="You are an expert code reviewer."),
    "tutoring": Template(system_prompt="You are a patient tutor for {subject}."),
}


def begin(session: Session, name: str, template: Template, values: Mapping[str, Json]) -> None:
    """Make a template's instruction a new session's first message; raises `InvalidInput` where a value is missing."""
    wanted = {field for _, field, _, _ in string.Formatter().parse(template.system_prompt) if field}
    missing = wanted - values.keys()
    if missing:
        raise InvalidInput(f"template {name} needs {', '.join(sorted(missing))}")
    text = template.system_prompt.format(**{key: values[key] for key in wanted})
    session.update_metadata({**template.metadata, **values, "template": name, "created_from_template": True})
    session.add_system_message(text)
