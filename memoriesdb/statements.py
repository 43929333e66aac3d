"""Text as SQL statements: where each ends, and functions that stand where a table may stand.

SQLite knows table-valued functions only of compiled modules, so ``FROM get_session_messages('id')`` becomes
what it stands for: columns taken from the JSON array that the function gives (tests/unit/test_sql.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from ..storage.errors import InvalidInput
from ..storage.sqlite import dbapi

_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \[[^\]]*\] | --[^\n]* | /\*.*?(?:\*/|$) | \w+ | \s+ | .""",
    re.VERBOSE | re.DOTALL,
)

ONCE = (
    "let it stand among the result columns, and where its value is needed again in a WITH … AS MATERIALIZED (SELECT …)"
)


def statements(text: str) -> Iterator[str]:
    """The statements of a text; what stands behind the last semicolon is one as well, blanks are none."""
    statement = ""
    for piece in re.split("(?<=;)", text):
        statement += piece
        if dbapi.complete_statement(statement):
            if not _is_blank(statement):
                yield statement
            statement = ""
    if not _is_blank(statement):
        yield statement


def complete(text: str) -> bool:
    """Say whether a text ends a statement, or holds none."""
    return dbapi.complete_statement(text) or _is_blank(text)


def with_tables(statement: str, tables: Mapping[str, tuple[str, ...]]) -> str:
    """The statement with functions of these names, where a table is read, made into tables of these columns."""
    tokens = _TOKEN.findall(statement)
    written: list[str] = []
    before, at = "", 0
    while at < len(tokens):
        name = tokens[at].lower()
        end = _call_end(tokens, at + 1) if name in tables and before in ("from", "join") else 0
        if end:
            columns = ", ".join(f"value ->> '$.{column}' AS {column}" for column in tables[name])
            call = "".join(tokens[at:end])
            written.append(f"(SELECT {columns} FROM json_each({call}))")  # noqa: S608  a part of what was typed
            at = end
        else:
            written.append(tokens[at])
            at += 1
        if not _is_blank(name):
            before = name
    return "".join(written)


def calls(statement: str, names: Collection[str]) -> Counter[str]:
    """How often each of these functions is called, by what is typed.

    Raises `InvalidInput` where one stands in a subquery, other than of a ``WITH … AS MATERIALIZED`` of the statement:
    SQLite may make any other a part of what is around it, and so run it for each row there.
    """
    tokens = [each for each in _TOKEN.findall(statement) if not _is_blank(each)]
    found: Counter[str] = Counter()
    loose: list[bool] = []
    for at, each in enumerate(tokens):
        ahead = tokens[at + 1].lower() if at + 1 < len(tokens) else ""
        name = each.strip('"`[]').lower()
        if each == "(":
            kept = tokens[max(at - 1, 0)].lower() == "materialized" and tokens[max(at - 2, 0)].lower() == "as"
            loose.append(ahead in ("select", "values", "with") and not kept)
        elif each == ")" and loose:
            loose.pop()
        elif name in names and ahead == "(":
            if any(loose):
                raise InvalidInput(f"{name} writes and cannot stand in a subquery", hint=ONCE)
            found[name] += 1
    return found


def _call_end(tokens: list[str], at: int) -> int:
    """Where the arguments end whose bracket is the next token that says something; 0 if there are none."""
    while at < len(tokens) and _is_blank(tokens[at]):
        at += 1
    depth = 0
    for place in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[place], 0)
        if depth <= 0:
            return place + 1 if tokens[place] == ")" else 0
    return 0


def _is_blank(text: str) -> bool:
    return all(each.isspace() or each.startswith(("--", "/*")) or each == ";" for each in _TOKEN.findall(text))
