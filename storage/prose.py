"""What text of a message is searched, and how it stands in the index.

Prose is indexed whole: text, thinking, plain strings. Of tool traffic the first `TOOL_BYTES` of
a message count, of base64 nothing. A run of Chinese, Japanese or Korean becomes its overlapping
pairs and its last character, so that any part of it is a phrase or a prefix of the index. What
is indexed, sought and marked is read alike (tests/unit/test_prose.py).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from operator import add

from .model import Content, Json

TOOL_BYTES = 8 * 1024

CJK = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa"
    "\u30fc-\u30ff\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f"
    "\uac00-\ud7fb\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
"""The inside of a character class: letters of scripts that set no spaces between words, after NFKC."""
LETTER = rf"[^\W_{CJK}]"
"""A letter or digit of any other script."""

_TRAILING = re.compile(r"[\W_]+$")

_TOOL_ROLES = ("tool", "function")
_SPOKEN = {"text": "text", "input_text": "text", "output_text": "text", "thinking": "thinking", "refusal": "refusal"}
_OPAQUE_TYPES = ("base64", "image", "input_audio", "redacted_thinking")
_OPAQUE_KEYS = ("type", "id", "tool_use_id", "call_id", "signature", "encrypted_content", "media_type")

_PROBE = 128
_BASE64 = re.compile(
    r"data:[\w.+/-]*(?:;[\w.=+-]*)*;base64,[A-Za-z0-9+/=_-]+"
    rf"|(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{{{2 * _PROBE},}}={{0,2}}"
    r"|(?<![A-Za-z0-9+/])(?:[A-Za-z0-9+/]{60,76}\r?\n){3,}[A-Za-z0-9+/]*={0,2}"
)


@cache
def cjk_run() -> re.Pattern[str]:
    """What finds a run of `CJK`. Made when it is first needed: it takes longer than an ASCII search does to begin."""
    return re.compile(f"[{CJK}]+")


@cache
def _last_run() -> re.Pattern[str]:
    return re.compile(f"([{CJK}]+)({LETTER}*)$")


def prose(role: str, content: Content) -> str:
    """The text of a message that is searched, in the order of its blocks."""
    if isinstance(content, str) and role not in _TOOL_ROLES:
        return without_base64(content)
    parts: list[str] = []
    left = TOOL_BYTES
    for block in [content] if isinstance(content, str) else content:
        spoken = _spoken(role, block)
        if spoken is not None:
            parts.append(without_base64(spoken))
            continue
        for text in _strings(block):
            if left <= 0:
                break
            kept = without_base64(text[: 4 * left]).encode(errors="ignore")[:left]
            left -= len(kept)
            parts.append(kept.decode(errors="ignore"))
    return "\n\n".join(parts)


def without_base64(text: str) -> str:
    """The text without data URLs and without long or many-lined runs of base64."""
    # Each run worth dropping fills one of these windows; in most text every window holds a space.
    for start in range(0, len(text) - _PROBE + 1, _PROBE):
        if text.find(" ", start, start + _PROBE) < 0:
            return _BASE64.sub(" ", text)
    return text


def words(text: str) -> str:
    """The text as the index's tokeniser gets it: one width, CJK runs as pairs and last character."""
    if text.isascii():
        return text
    return cjk_run().sub(_pairs, unicodedata.normalize("NFKC", text))


def phrase(text: str, *, prefix: bool) -> str:
    """The FTS5 phrase for words that follow each other, given without quotes and as NFKC; any text makes a valid one.

    What begins or ends inside a CJK run is found; so is a word that follows one directly, by its beginning.
    """
    text = _TRAILING.sub("", text)
    end = None if text.isascii() else _last_run().search(text)
    if end and end[2]:
        prefix = True
    elif end:
        # The last character stands alone only where a run ends, but begins a pair anywhere else.
        run, text = end[1], text[: end.start()]
        tail = " ".join(map(add, run, run[1:])) or run
        return f'"{words(text)} {tail}"' + ("*" if len(run) == 1 else "")
    return f'"{words(text)}"' + ("*" if prefix else "")


def folded(text: str) -> str:
    """The text without case, width and accents, for comparison."""
    return text.lower() if text.isascii() else text.translate(FOLD)


def _spoken(role: str, block: Json) -> str | None:
    """What is said in a block; None where it is tool traffic."""
    if role in _TOOL_ROLES or not isinstance(block, dict):
        return None
    text = block.get(_SPOKEN.get(str(block.get("type")), ""))
    return text if isinstance(text, str) else None


def _strings(value: Json) -> Iterator[str]:
    """Every text inside a JSON value, but for what is only data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict) and value.get("type") not in _OPAQUE_TYPES:
        for key, item in value.items():
            if key not in _OPAQUE_KEYS:
                yield from _strings(item)


def _pairs(match: re.Match[str]) -> str:
    run = match[0]
    return f" {' '.join([*map(add, run, run[1:]), run[-1]])} "


class _Fold(dict[int, str]):
    """What each character folds to, made when it is first met."""

    def __missing__(self, code: int) -> str:
        plain = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", chr(code)).casefold())
        kept = "".join(char for char in plain if not "\u0300" <= char <= "\u036f")
        self[code] = unicodedata.normalize("NFC", kept)
        return self[code]


FOLD = _Fold()
