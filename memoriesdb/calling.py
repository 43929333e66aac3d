"""What every function of this package takes first: a store, as it is or as the library hands it out."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ..storage.errors import InvalidInput
from ..storage.store import Store

if TYPE_CHECKING:
    from ..storage.library.sqlite_store import SQLiteSessionStore

P = ParamSpec("P")
R = TypeVar("R")

_DEFAULT_TABLE = "sessions"


def on_store(function: Callable[Concatenate[Store, P], R]) -> Callable[Concatenate[Store | SQLiteSessionStore, P], R]:
    """Let a function also be called with the library's store; the value must not read from the store later on."""

    @wraps(function)
    def called(store: Store | SQLiteSessionStore, /, *args: P.args, **options: P.kwargs) -> R:
        if isinstance(store, Store):
            return function(store, *args, **options)
        if store.table_name != _DEFAULT_TABLE:
            raise InvalidInput("MemoriesDB's functions work on the default table_name only")
        with store.database() as opened:
            return function(opened, *args, **options)

    return called
