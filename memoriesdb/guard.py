"""What SQL that a person typed may do: read everything, and write to temporary tables of its own.

The connection could not write to the store anyway. This says so before anything is tried, and refuses what
reaches beyond the store: other files, extensions, settings of the database (tests/unit/test_sql.py).
"""

from __future__ import annotations

from ..storage.errors import InvalidInput
from ..storage.sqlite import dbapi

# Of what can be asked about a database; all the others set something, or act on the file.
_PRAGMAS = frozenset({
    "collation_list", "compile_options", "database_list", "foreign_key_list", "function_list", "index_info",
    "index_list", "index_xinfo", "table_info", "table_list", "table_xinfo",
})  # fmt: skip
_READING = frozenset({dbapi.SQLITE_SELECT, dbapi.SQLITE_READ, dbapi.SQLITE_RECURSIVE})
_WRITING = frozenset({dbapi.SQLITE_INSERT, dbapi.SQLITE_UPDATE, dbapi.SQLITE_DELETE})
_TEMPORARY = frozenset({
    dbapi.SQLITE_CREATE_TEMP_INDEX, dbapi.SQLITE_CREATE_TEMP_TABLE, dbapi.SQLITE_CREATE_TEMP_TRIGGER,
    dbapi.SQLITE_CREATE_TEMP_VIEW, dbapi.SQLITE_DROP_TEMP_INDEX, dbapi.SQLITE_DROP_TEMP_TABLE,
    dbapi.SQLITE_DROP_TEMP_TRIGGER, dbapi.SQLITE_DROP_TEMP_VIEW,
})  # fmt: skip
_REASONS = {
    dbapi.SQLITE_TRANSACTION: "each statement is a transaction of its own",
    dbapi.SQLITE_SAVEPOINT: "each statement is a transaction of its own",
    dbapi.SQLITE_ATTACH: "other files cannot be opened, nor copies made",
    dbapi.SQLITE_DETACH: "other files cannot be opened, nor copies made",
}

INSTEAD = (
    "write through the functions (`steno sql --write`, see `.help`) or the verbs (see `steno --help`), "
    "so that the change is stamped and syncs"
)


def tables_refused() -> InvalidInput:
    """The error for a statement that would write past the stamps."""
    return InvalidInput("SQL does not write to Steno's tables", hint=INSTEAD)


class Guard:
    """The authorizer of a connection; ``refused`` is why it said no, until that is cleared."""

    def __init__(self) -> None:
        self.refused: InvalidInput | None = None

    def __call__(
        self, action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        """Answer SQLite, which asks for every part of a statement while it compiles it."""
        del trigger  # a view's own parts are asked for like the statement's
        if self._allowed(action, first, second, database):
            return dbapi.SQLITE_OK
        self.refused = self.refused or _refusal(action, first)
        return dbapi.SQLITE_DENY

    def _allowed(self, action: int, first: str | None, second: str | None, database: str | None) -> bool:
        if action in _READING:
            return True
        if action == dbapi.SQLITE_FUNCTION:
            return (second or "").lower() != "load_extension"
        if action == dbapi.SQLITE_PRAGMA:
            return (first or "").lower() in _PRAGMAS
        return (action in _WRITING and database == "temp") or action in _TEMPORARY


def _refusal(action: int, first: str | None) -> InvalidInput:
    if action == dbapi.SQLITE_FUNCTION:
        return InvalidInput("extensions cannot be loaded")
    if action == dbapi.SQLITE_PRAGMA:
        return InvalidInput(f"PRAGMA {first} is refused", hint="those that describe tables are allowed")
    if action in _REASONS:
        return InvalidInput(_REASONS[action])
    return tables_refused()
