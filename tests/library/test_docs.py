"""The pages of docs/library: their Python runs page by page, and prints what the page says that it prints.

What a line prints stands in a comment behind it, or what a whole block prints in a ``text`` block right below it.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "library"
REDIS, POSTGRES = "redis://localhost:6379", "postgresql://localhost/steno"
"""The servers of the pages; a test has its own."""

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


class Block(NamedTuple):
    """A Python block of a page: the number of its first line, and what it prints, a line an item."""

    line: int
    code: str
    prints: list[str]


def _blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fenced = list(_FENCED.finditer(text))
    found: list[Block] = []
    for block, following in zip(fenced, [*fenced[1:], None], strict=True):
        if block[1] != "python":
            continue
        below = following is not None and following[1] == "text" and not text[block.end() : following.start()].strip()
        said = following[2].splitlines() if below and following is not None else _behind(block[2])
        found.append(Block(text.count("\n", 0, block.start(2)) + 1, block[2], said))
    return found


def _behind(code: str) -> list[str]:
    """The comments behind the lines that print, as far as those stand outside of functions."""
    lines = code.splitlines()
    ends = sorted(
        node.end_lineno
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and node.end_lineno
    )
    behind = [lines[end - 1].partition(")  # ") for end in ends]
    return [comment for _, mark, comment in behind if mark]


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory and a home of the page's own, and an environment that is put back behind it."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    os.environ["HOME"] = str(tmp_path)
    os.environ["STENO_HOME"] = str(tmp_path / "home")
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def _postgres(postgres_url: str) -> Iterator[str]:
    """The URL of an empty database."""
    import psycopg

    name = f"docs_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield postgres_url.rpartition("/")[0] + f"/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("name", sorted(path.name for path in PAGES.glob("*.md")))
def test_the_examples_of_a_page_print_what_the_page_says(name: str, request: pytest.FixtureRequest):
    names: dict[str, object] = {"__name__": "__main__"}
    for block in _blocks(PAGES / name):
        code = block.code
        if REDIS in code:
            request.getfixturevalue("redis_prefix")  # an empty one
            code = code.replace(REDIS, request.getfixturevalue("redis_url"))
        if POSTGRES in code:
            code = code.replace(POSTGRES, request.getfixturevalue("_postgres"))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (block.line - 1) + code, PAGES / name, "exec"), names)
        assert printed.getvalue().splitlines() == block.prints, f"the block at line {block.line} of {name}"


@pytest.mark.parametrize("name", sorted(path.name for path in PAGES.glob("*.md")))
def test_the_links_of_a_page_lead_somewhere(name: str):
    targets = _LINK.findall((PAGES / name).read_text(encoding="utf-8"))
    assert [target for target in targets if not (PAGES / target).exists()] == []
