"""Sessions as one page that stands alone: readable, printable, with nothing in it that a browser would run or fetch.

Whatever a message holds is shown as text; the page's policy forbids scripts and requests besides
(tests/unit/test_cli_export.py).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from ..storage.model import Message, SessionHeader
from .export_forms import Pieces, Told, speaker
from .rendering import readable
from .terminal import safe

_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```[ \t]*$\n?", re.MULTILINE | re.DOTALL)
_STYLE = """\
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em; }
h1 { line-height: 1.2; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1em; color: GrayText; }
dd { margin: 0; overflow-wrap: anywhere; }
article { border-left: 4px solid var(--line); margin: 1.5em 0; padding: 0 0 0 1em; }
article.user { border-color: #36c; }
article.assistant { border-color: #292; }
h2 { font-size: 1em; margin: 0 0 .3em; }
time, .language { color: GrayText; font-weight: normal; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .7em; overflow-x: auto; }
section + section { border-top: 2px solid var(--line); margin-top: 4em; }
@media print {
  body { max-width: none; margin: 0; font-size: 11pt; }
  h2 { break-after: avoid; }
  pre { white-space: pre-wrap; }
  section + section { break-before: page; border: 0; margin: 0; }
}
"""


def page(sessions: Iterable[Told], _: bool) -> Pieces:
    """The page: a section for each session."""
    head: str | None = None
    for session, messages in sessions:
        if head is None:
            head = _head(session.title or session.id)
            yield head.encode()
        yield _heading(session).encode()
        for message in messages:
            yield _message(message).encode()
        yield b"</section>\n"
    if head is None:
        yield _head("No sessions").encode()
    yield b"</body>\n</html>\n"


def _head(title: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_shown(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n"
    )


def _heading(session: SessionHeader) -> str:
    facts = {
        "Created": session.created_at,
        "Last updated": session.updated_at,
        "Provider": session.provider,
        "Model": session.model,
        "Tags": ", ".join(session.tags),
        "Messages": str(session.message_count),
        "ID": session.id,
    }
    rows = "".join(f"<dt>{name}</dt><dd>{_shown(value)}</dd>\n" for name, value in facts.items() if value)
    return f"<section>\n<h1>{_shown(session.title or session.id)}</h1>\n<dl>\n{rows}</dl>\n"


def _message(message: Message) -> str:
    kind = message.role if message.role in ("user", "assistant") else "other"
    moment = _shown(message.timestamp)
    heading = f'<h2>{_shown(speaker(message, capital=True))} <time datetime="{moment}">{moment}</time></h2>'
    return f'<article class="{kind}">\n{heading}\n{_said(readable(message.content))}</article>\n'


def _said(text: str) -> str:
    """The text, with fenced code set apart."""
    pieces: list[str] = []
    at = 0
    for fence in _FENCE.finditer(text):
        language = f'<div class="language">{_shown(fence[1].strip())}</div>\n' if fence[1].strip() else ""
        pieces += [_prose(text[at : fence.start()]), language, f"<pre><code>{_shown(fence[2])}</code></pre>\n"]
        at = fence.end()
    return "".join([*pieces, _prose(text[at:])])


def _prose(text: str) -> str:
    return f'<div class="said">{_shown(text)}</div>\n' if text.strip() else ""


def _shown(text: str) -> str:
    """Text as HTML; what would steer a terminal or turn the writing direction stands there by its number."""
    return html.escape(safe(text))
