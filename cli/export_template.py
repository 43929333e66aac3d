"""Sessions by a template of the user's: Jinja2, in its sandbox, so that a template from elsewhere cannot run programs.

    session   the session's fields, as `steno show --format json` has them
    messages  its messages; ``text`` is the content as text
    metadata  its metadata

and the functions ``text(content)``, ``time(text, format)``, ``tokens(message)`` and ``json(value)``, which are
filters too. What is wrong with a template is told with its line (tests/unit/test_cli_export.py).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..storage.errors import InvalidInput, StenoError
from ..storage.model import Message, parse_time
from ..storage.shape import message_json, session_json
from .export_forms import Document, Pieces, Told
from .rendering import readable
from .terminal import local_time, one_line_json


class NoTemplate(StenoError):
    """The template cannot be read."""

    hint = "name a file that is there"

    def __init__(self, *, path: Path, reason: str) -> None:
        super().__init__(f"template {path} cannot be read ({reason})")


def by_template(path: Path) -> Document:
    """How a template makes a file; several sessions follow each other. Raises `NoTemplate` and `InvalidInput`."""
    from jinja2 import FileSystemLoader, StrictUndefined, TemplateError  # noqa: PLC0415  only for templates
    from jinja2.sandbox import SandboxedEnvironment  # noqa: PLC0415  as above

    path = path.expanduser().absolute()
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise NoTemplate(path=path, reason=getattr(exc, "strerror", None) or "it is not UTF-8 text") from exc
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(path.parent),
        autoescape=any(suffix in (".html", ".htm", ".xml") for suffix in path.suffixes),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    functions: dict[str, Callable[..., Any]] = {
        "text": readable, "time": _time, "tokens": _tokens, "json": one_line_json,
    }  # fmt: skip
    environment.globals.update(functions)
    environment.filters.update(functions)
    try:
        code = environment.compile(source, path.name, str(path))
        template = environment.template_class.from_code(environment, code, environment.make_globals(None))
    except TemplateError as exc:
        raise _faulty(path, exc) from exc

    def render(sessions: Iterable[Told], _: bool) -> Pieces:
        for session, messages in sessions:
            about = session_json(session)
            told = [{**message_json(each), "text": readable(each.content)} for each in messages]
            try:
                yield template.render(session=about, messages=told, metadata=about["metadata"]).encode()
            except Exception as exc:
                raise _faulty(path, exc) from exc

    return render


def _faulty(path: Path, exc: Exception) -> InvalidInput:
    """What is wrong with a template, in one line: Jinja2 makes its lines those of the traceback."""
    frames = [frame.lineno for frame in traceback.extract_tb(exc.__traceback__) if frame.filename == str(path)]
    line = getattr(exc, "lineno", None) or (frames[-1] if frames else None)
    where = f"line {line}: " if line else ""
    return InvalidInput(
        f"template {path.name}: {where}{getattr(exc, 'message', None) or str(exc) or type(exc).__name__}"
    )


def _time(text: str, form: str = "%Y-%m-%d %H:%M") -> str:
    parse_time(text)
    return local_time(text, form)


def _tokens(message: dict[str, Any]) -> int:
    """The tokens of a message; 0 where nobody said."""
    fields = {name: message[name] for name in ("id", "role", "content", "timestamp", "usage")}
    return Message(**fields).token_usage["total"]
