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
    """Make a template's instruction a new session's first message; raises `InvalidInput` where that cannot be."""
    wanted = _placeholders(name, template)
    missing = wanted - values.keys()
    if missing:
        raise InvalidInput(f"template {name} needs {', '.join(sorted(missing))}")
    text = template.system_prompt.format(**{key: values[key] for key in wanted})
    session.update_metadata({**template.metadata, **values, "template": name, "created_from_template": True})
    session.add_system_message(text)


def _placeholders(name: str, template: Template) -> set[str]:
    try:
        parts = list(string.Formatter().parse(template.system_prompt))
    except ValueError as exc:
        raise InvalidInput(f"template {name} cannot be filled in ({exc})", hint="write {{ for a brace") from exc
    for _, field, form, conversion in parts:
        if field is not None and (form or conversion or not field.isidentifier()):
            raise InvalidInput(f"template {name} cannot be filled in: a placeholder is a name alone", hint="as {name}")
    return {field for _, field, _, _ in parts if field is not None}
