"""A store through SQL: what people type is read by a connection that cannot write, what they call writes as usual.

    SELECT add_message_to_session(id, …) FROM sessions
       │ reads, by a connection of its own: it sees the store as it was when the statement began
       └─ each call writes through the store: one transaction a statement, stamped like any other change

Were both the same connection, a statement would read what it writes, and the one above could go on for ever.
The rows of a statement that writes are held until it is committed, so no lock waits for a reader of the output
(tests/unit/test_sql.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from ..storage.errors import InvalidInput
from ..storage.sqlite import connect, dbapi, translated
from ..storage.store import Store
from .functions import FUNCTIONS, TABLES, Function, chain_to, whole_chain
from .guard import Guard, tables_refused
from .interrupts import Interrupts
from .statements import ONCE, calls, with_tables
from .views import VIEWS

Row = tuple[Any, ...]

_LOOK_EVERY = 100_000
# What SQLite says of a statement that is wrong, as against a file or a disk that is.
_FAULTS_OF_A_STATEMENT = frozenset({
    dbapi.SQLITE_ERROR, dbapi.SQLITE_TOOBIG, dbapi.SQLITE_CONSTRAINT, dbapi.SQLITE_MISMATCH, dbapi.SQLITE_RANGE,
    dbapi.SQLITE_AUTH,
})  # fmt: skip
_OF_A_VIEW = ("because it is a view", "use DROP VIEW", "may not be altered", "views may not be indexed")
_WRITERS = frozenset(each.name for each in FUNCTIONS if each.writes)


class Result(NamedTuple):
    """The names of a statement's columns, none if it gives no rows, and the rows, read as they are asked for."""

    columns: tuple[str, ...]
    rows: Iterator[Row]


class SqlConnection:
    """Views and functions over a store; ``writable`` says whether functions may write. The store stays the caller's."""

    def __init__(self, store: Store, *, writable: bool) -> None:
        self._store = store
        self._writable = writable
        self._guard = Guard()
        self._raised: BaseException | None = None
        self._chain: tuple[str, list[str]] = ("", [])
        self._open = ExitStack()
        self._interrupts = Interrupts()
        self._writing = False
        self._rows_open: Generator[Row] | None = None
        self._connection = connect(store.path, read_only=True, durability="normal", compress=False)
        # The file may be anybody's: what stands in its schema calls none of our functions.
        self._connection.execute("PRAGMA trusted_schema = OFF")
        for function in FUNCTIONS:
            for count in function.counts:
                self._connection.create_function(function.name, count, partial(self._function, function))
        self._connection.create_function("fork_chain", 2, partial(self._call, self._fork_chain))
        for view in VIEWS:
            self._connection.execute(f"CREATE TEMP VIEW {view.name} AS {view.sql}")
        self._connection.set_authorizer(self._guard)
        # SQLite does not come back before it has a row, and only Python notices that somebody interrupts.
        self._connection.set_progress_handler(self._is_interrupted, _LOOK_EVERY)

    def close(self) -> None:
        """Close the connection, and the rows that nobody read; temporary tables are gone then."""
        if self._rows_open is not None:
            self._rows_open.close()
        self._connection.close()

    def run(self, statement: str) -> Result:
        """Run one statement, whose rows are to be read before the next one.

        Raises `InvalidInput` for a wrong one, what its functions raise, and `LocalStorageError`.
        """
        rows = self._rows_open = self._rows(with_tables(statement, TABLES))
        return Result(next(rows), rows)

    def _rows(self, statement: str) -> Generator[Row]:
        """The names of the columns, then the rows."""
        held: list[Row] = []
        with ExitStack() as stack:
            stack.enter_context(self._interrupts.within())
            stack.enter_context(self._transaction())
            self._check_writes_once(statement)
            cursor = stack.enter_context(closing(self._connection.execute(statement)))
            names = tuple(column[0] for column in cursor.description or ())
            for row in chain([names], cursor):
                held.append(row)
                if not self._writing:
                    self._interrupts.deferred = False  # whoever takes the rows may wait for somebody
                    self._interrupts.check()
                    yield from held
                    self._interrupts.deferred = True
                    held.clear()
            self._interrupts.check()
        yield from held

    def _check_writes_once(self, statement: str) -> None:
        """Raise `InvalidInput` where SQLite would call a function that writes more often than the statement says.

        It puts what an alias stands for wherever that is used, and may read a subquery once for each row of another. So
        the calls in the compiled program are counted, and subqueries that need not be kept are refused.
        """
        if not self._writable or statement.split(maxsplit=1)[:1] in (["EXPLAIN"], ["explain"]):
            return
        typed = calls(statement, _WRITERS)
        compiled = Counter(
            name
            for _, operation, _, _, _, p4, *_ in self._connection.execute(f"EXPLAIN {statement}")
            if operation in ("Function", "PureFunc") and (name := str(p4).partition("(")[0]) in _WRITERS
        )
        if twice := [name for name in sorted(compiled) if compiled[name] > typed[name]]:
            raise InvalidInput(f"{twice[0]} would be called more than once for a row", hint=ONCE)

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """What the functions write in one statement stands as a whole or not at all."""
        self._guard.refused = self._raised = None
        self._chain, self._writing = ("", []), False
        with ExitStack() as self._open:
            try:
                yield
            except (dbapi.Error, dbapi.Warning, ValueError) as exc:
                raise self._told(exc) from exc

    def _function(self, function: Function, *arguments: Any) -> Any:
        """Call a function for SQLite; one that writes begins the transaction, those after it see what it wrote."""
        if not function.writes:
            return self._call(function.call, self._store, *arguments)
        return self._call(self._write, function, *arguments)

    def _write(self, function: Function, *arguments: Any) -> Any:
        if not self._writable:
            raise InvalidInput("read-only", hint="use --write")
        if not self._writing:
            self._open.enter_context(self._store.transaction())
            self._writing = True
        return function.call(self._store, *arguments)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            self._interrupts.check()
            return function(*arguments)
        except BaseException as exc:  # SQLite only tells that there was one
            self._raised = self._raised or exc
            raise

    def _fork_chain(self, session_id: str, origin: str) -> str:
        """The way from a session to the one that wrote a message, as a JSON array; rows come session by session."""
        if self._chain[0] != session_id:
            self._chain = session_id, whole_chain(self._store, session_id)
        return chain_to(self._chain[1], origin)

    def _told(self, exc: Exception) -> BaseException:
        """What a person is told for an error of SQLite."""
        said = self._raised or self._guard.refused
        if said is not None or isinstance(exc, InvalidInput):
            return said or exc
        code = getattr(exc, "sqlite_errorcode", dbapi.SQLITE_ERROR) & 0xFF
        if code == dbapi.SQLITE_INTERRUPT:
            return KeyboardInterrupt()
        if code == dbapi.SQLITE_READONLY or any(said in str(exc) for said in _OF_A_VIEW):
            return tables_refused()
        return InvalidInput(str(exc)) if code in _FAULTS_OF_A_STATEMENT else translated(exc, self._store.path)

    def _is_interrupted(self) -> int:
        return int(self._interrupts.pending)
