"""What text of a message is searched, and how it stands in the index.

Prose is indexed whole: text, thinking, plain strings. Of tool traffic the first `TOOL_BYTES` of
a message count, of base64 nothing. A run of Chinese, Japanese or Korean becomes its overlapping
pairs and its last character, so that any part of it of two characters is a phrase of the index.
The index, the query and the excerpt read text alike (tests/unit/test_search.py).
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from operator import add

from .model import Content, Json

TOOL_BYTES = 8 * 1024
EXCERPT_LENGTH = 160

CJK = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa"
    "\u30fc-\u30ff\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f"
    "\uac00-\ud7ff\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
"""The inside of a character class: what is written without spaces, after NFKC."""

LETTER = rf"[^\W_{CJK}]"

_CJK_RUN = re.compile(f"[{CJK}]+")
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
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


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
    # Each run worth dropping fills one of these windows; most text has a space in all of them.
    for start in range(0, len(text) - _PROBE + 1, _PROBE):
        if text.find(" ", start, start + _PROBE) < 0:
            return _BASE64.sub(" ", text)
    return text


def words(text: str) -> str:
    """The text as the index's tokeniser gets it: letters of one width, CJK runs as pairs and last character."""
    if text.isascii():
        return text
    return _CJK_RUN.sub(_pairs, unicodedata.normalize("NFKC", text))


def excerpt(text: str, pattern: re.Pattern[str], *, start: str, end: str) -> str:
    """About `EXCERPT_LENGTH` characters around the best match, on one line, matches between the marks.

    ``pattern`` matches text as `folded` makes it, with one group for each thing that is sought; the best
    place is where most of them stand together. The text's own control characters are dropped, so that a
    control character is a mark that cannot be mistaken. Without a match it is the beginning of the text.
    """
    shown = unicodedata.normalize("NFC", text)
    spans = _spans(shown, pattern)
    first = _best(spans)
    begin, stop = _window(shown, *(spans[first][:2] if spans else (0, 0)))
    parts: list[str] = ["…" if begin else ""]
    at = begin
    for left, right, _ in spans[first:] if spans else ():
        if right > stop:
            break
        parts += [_BLANK.sub(" ", shown[at:left]), start, _BLANK.sub(" ", shown[left:right]), end]
        at = right
    parts += [_BLANK.sub(" ", shown[at:stop]), "…" if stop < len(shown) else ""]
    return "".join(parts).strip()


def folded(text: str) -> str:
    """The text with case, width and accents taken off, for comparison."""
    return text.lower() if text.isascii() else text.translate(_FOLD)


def sought(text: str, *, prefix: bool) -> str:
    """A regular expression that finds in `folded` text what the index finds for this phrase; empty for no words."""
    pieces = [piece if _is_cjk(piece) else re.escape(piece) for piece in _PIECE.findall(folded(text))]
    if not pieces:
        return ""
    parts = [pieces[0]]
    for before, piece in zip(pieces, pieces[1:], strict=False):
        touching = _is_cjk(before) or _is_cjk(piece)
        parts += [r"[\W_]*" if touching else r"[\W_]+", piece]
    opening = "" if _is_cjk(pieces[0]) else f"(?<!{LETTER})"
    closing = "" if prefix or _is_cjk(pieces[-1]) else f"(?!{LETTER})"
    return opening + "".join(parts) + closing


def _spoken(role: str, block: Any) -> str | None:
    """What a person or a model says in a block; None where it is tool traffic."""
    if role in _TOOL_ROLES or not isinstance(block, dict):
        return None
    text = block.get(_SPOKEN.get(block.get("type"), ""))
    return text if isinstance(text, str) else None


def _strings(value: Json) -> Iterator[str]:
    """Every text inside a JSON value but what is only data."""
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


