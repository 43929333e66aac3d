"""Sessions made from a seed: text that reads and compresses like chat, in any amount.

The same seed gives the same text on every machine. Words follow Zipf's law over a made-up
vocabulary, sentences and paragraphs vary in length, and now and then stand code, paths and
random ids between them, so that zstd finds in it about what it finds in real conversations
(tests/unit/test_benchmarks.py).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import zstandard

VOCABULARY = 20_000
SAMPLE_BYTES = 4 * 1024 * 1024

_ONSETS = "b c d f g h j k l m n p qu r s t v w br ch cl cr dr fl gr pl pr sh sk sl sp st str th tr wh".split(" ")  # noqa: SIM905
_VOWELS = "a e i o u ai ea ee ie oa oo ou".split(" ")  # noqa: SIM905
_CODAS = "   b d f g k l m n p r s t x ck ct ld ll mp nd ng nt rd rk rm rn rt ss st th".split(" ")  # noqa: SIM905
_ENDINGS = ["", "", "", "", "s", "ed", "ing", "er", "ly", "ion", "able", "ment"]
_CODE = (
    "def {a}_{b}({c}: int) -> str:\n    return {d}[{c}].{e}({n})\n",
    "for {a} in {b}.{c}():\n    if {a} is None:\n        continue\n    {d}.append({a})\n",
    'const {a} = await {b}.{c}("{d}", {{ {e}: {n} }});\n',
    "$ {a} --{b} {c}/{d}.{e}\n{d}: {n} {a}, 0 {b}\n",
    'File "/home/{a}/{b}/{c}.py", line {n}, in {d}\n',
)


class Prose:
    """An endless source of text; each source draws from its own seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._words = _vocabulary(random.Random(0))
        self._weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(self._words))))
        self._drawn: list[str] = []

    def text(self, size: int) -> str:
        """Text of about ``size`` characters: paragraphs, and code in about one of eight."""
        parts: list[str] = []
        length = 0
        while length < size:
            part = self._code() if self.random.random() < 0.12 else self._paragraph(min(size - length, 600))
            parts.append(part)
            length += len(part) + 2
        return "\n\n".join(parts)[:size].rstrip() or "well"

    def sizes(self, mean: int, count: int) -> list[int]:
        """Lengths of messages as chats have them: most are short, some are long; their mean is about ``mean``."""
        return [max(20, min(int(self.random.lognormvariate(0, 0.9) * mean * 0.67), 40 * mean)) for _ in range(count)]

    def name(self) -> str:
        """A word as programs use them, or two."""
        words = self._take(self.random.choice((1, 1, 2)))
        return "_".join(words)

    def id(self) -> str:
        """A random id in the form of a UUID."""
        digits = f"{self.random.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def _paragraph(self, size: int) -> str:
        sentences: list[str] = []
        length = 0
        while length < size:
            words = self._take(self.random.randint(4, 22))
            if self.random.random() < 0.06:
                words[-1] = self.id() if self.random.random() < 0.3 else f"`{words[0]}/{words[-1]}.py`"
            if len(words) > 9 and self.random.random() < 0.6:
                words[len(words) // 2] += ","
            sentence = " ".join(words)
            sentence = sentence[0].upper() + sentence[1:] + self.random.choice((".", ".", ".", ".", "?", "!", ":"))
            sentences.append(sentence)
            length += len(sentence) + 1
        return " ".join(sentences)

    def _code(self) -> str:
        names = {letter: self.name() for letter in "abcde"}
        return f"```\n{self.random.choice(_CODE).format(**names, n=self.random.randrange(1000))}```"

    def _take(self, count: int) -> list[str]:
        if len(self._drawn) < count:
            self._drawn = self.random.choices(self._words, cum_weights=self._weights, k=20_000)
        taken = self._drawn[-count:]
        del self._drawn[-count:]
        return taken


def zstd_ratio(texts: list[str]) -> float:
    """How small zstd level 3 makes the first 4 MiB of texts, as a part of 1."""
    sample = "\n".join(texts).encode()[:SAMPLE_BYTES]
    return len(zstandard.ZstdCompressor(level=3).compress(sample)) / len(sample)


def messages(prose: Prose, count: int, *, mean: int = 700) -> list[tuple[str, str]]:
    """Roles and texts of a conversation; the person writes less than the assistant."""
    sizes = prose.sizes(mean, count)
    return [
        ("assistant", prose.text(int(size * 1.6))) if at % 2 else ("user", prose.text(max(20, int(size * 0.4))))
        for at, size in enumerate(sizes)
    ]


def claude_code_files(folder: Path, *, seed: int, size_bytes: int) -> list[Path]:
    """Write transcripts of Claude Code's shape, together about ``size_bytes``, and name them."""
    prose = Prose(seed)
    written: list[Path] = []
    total = 0
    while total < size_bytes:
        session = prose.id()
        path = folder / f"-home-{prose.name()}" / f"{session}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = list(_records(prose, session, turns=prose.random.randint(3, 40)))
        data = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines).encode()
        path.write_bytes(data)
        total += len(data)
        written.append(path)
    return written


def _records(prose: Prose, session: str, *, turns: int) -> Iterator[dict[str, Any]]:
    second = prose.random.randrange(80_000_000)
    parent: str | None = None

    def record(kind: str, message: dict[str, Any], **more: Any) -> dict[str, Any]:
        nonlocal second, parent
        second += prose.random.randint(1, 40)
        own, before, parent = prose.id(), parent, None
        parent = own
        return {
            "parentUuid": before, "isSidechain": False, "userType": "external", "cwd": "/home/ann/work/backend",
            "sessionId": session, "version": "2.0.14", "gitBranch": "main", "type": kind, "message": message,
            "uuid": own, "timestamp": _time(second), **more,
        }  # fmt: skip

    def answer(blocks: list[dict[str, Any]]) -> dict[str, Any]:
        usage = {"input_tokens": 4, "cache_read_input_tokens": prose.random.randrange(90_000), "output_tokens": 120}
        message_id = f"msg_{prose.random.getrandbits(96):024x}"
        return {
            "id": message_id, "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": blocks,
            "stop_reason": None, "usage": usage,
        }  # fmt: skip

    for _ in range(turns):
        yield record("user", {"role": "user", "content": prose.text(prose.random.randint(40, 600))})
        for _ in range(prose.random.randint(0, 4)):
            call = f"toolu_{prose.random.getrandbits(96):024x}"
            arguments = {"file_path": f"/home/ann/work/{prose.name()}/{prose.name()}.py"}
            yield record("assistant", answer([{"type": "tool_use", "id": call, "name": "Read", "input": arguments}]))
            found = prose.text(prose.random.randint(200, 6000))
            result = {"type": "tool_result", "tool_use_id": call, "content": found}
            yield record("user", {"role": "user", "content": [result]}, toolUseResult={"type": "text", "file": found})
        yield record("assistant", answer([{"type": "text", "text": prose.text(prose.random.randint(200, 2500))}]))


def _time(second: int) -> str:
    day, rest = divmod(second, 86_400)
    month, day = divmod(day % 336, 28)
    return f"2026-{month + 1:02d}-{day + 1:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.000Z"


def _vocabulary(draw: random.Random) -> list[str]:
    """Different words, the frequent ones short."""
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        syllables = 1 if len(words) < 300 else draw.choice((1, 2, 2, 2, 3, 3))
        stem = "".join(draw.choice(_ONSETS) + draw.choice(_VOWELS) + draw.choice(_CODAS) for _ in range(syllables))
        words[stem + (draw.choice(_ENDINGS) if len(words) > 300 else "")] = None
    return list(words)
