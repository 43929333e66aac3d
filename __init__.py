"""Steno keeps a person's AI and chat sessions.

The public library. Names are looked up when they are first used, so that a command that
only reads starts fast (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .storage.errors import (
        AmbiguousRef,
        InvalidInput,
        LocalStorageError,
        MessageNotFound,
        MessagePurged,
        MissingDriver,
        SessionDeleted,
        SessionError,
        SessionExists,
        SessionNotFound,
        SessionNotFoundError,
        SessionTooLarge,
        StenoError,
        StoreDamaged,
        StoreRefused,
        StoreUnreachable,
        TargetExists,
        Unsupported,
    )
    from .storage.library.checkpoints import Checkpoint
    from .storage.library.contract import Selection, SessionStore, User
    from .storage.library.dicts import MessageDict
    from .storage.library.environment import store_from_environment
    from .storage.library.manager import SessionManager
    from .storage.library.memory_store import MemorySessionStore
    from .storage.library.postgres_store import PostgresSessionStore
    from .storage.library.redis_store import RedisSessionStore
    from .storage.library.session import Limits, Session
    from .storage.library.sqlite_store import SQLiteSessionStore
    from .storage.library.templates import Template
    from .storage.model import Message

__version__ = "0.1.0"

_HOMES = {
    "AmbiguousRef": "storage.errors",
    "Checkpoint": "storage.library.checkpoints",
    "InvalidInput": "storage.errors",
    "Limits": "storage.library.session",
    "LocalStorageError": "storage.errors",
    "MemorySessionStore": "storage.library.memory_store",
    "Message": "storage.model",
    "MessageDict": "storage.library.dicts",
    "MessageNotFound": "storage.errors",
    "MessagePurged": "storage.errors",
    "MissingDriver": "storage.errors",
    "PostgresSessionStore": "storage.library.postgres_store",
    "RedisSessionStore": "storage.library.redis_store",
    "SQLiteSessionStore": "storage.library.sqlite_store",
    "Selection": "storage.library.contract",
    "Session": "storage.library.session",
    "SessionDeleted": "storage.errors",
    "SessionError": "storage.errors",
    "SessionExists": "storage.errors",
    "SessionManager": "storage.library.manager",
    "SessionNotFound": "storage.errors",
    "SessionNotFoundError": "storage.errors",
    "SessionStore": "storage.library.contract",
    "SessionTooLarge": "storage.errors",
    "StenoError": "storage.errors",
    "StoreDamaged": "storage.errors",
    "StoreRefused": "storage.errors",
    "StoreUnreachable": "storage.errors",
    "TargetExists": "storage.errors",
    "Template": "storage.library.templates",
    "Unsupported": "storage.errors",
    "User": "storage.library.contract",
    "store_from_environment": "storage.library.environment",
}

__all__ = [
    "AmbiguousRef",
    "Checkpoint",
    "InvalidInput",
    "Limits",
    "LocalStorageError",
    "MemorySessionStore",
    "Message",
    "MessageDict",
    "MessageNotFound",
    "MessagePurged",
    "MissingDriver",
    "PostgresSessionStore",
    "RedisSessionStore",
    "SQLiteSessionStore",
    "Selection",
    "Session",
    "SessionDeleted",
    "SessionError",
    "SessionExists",
    "SessionManager",
    "SessionNotFound",
    "SessionNotFoundError",
    "SessionStore",
    "SessionTooLarge",
    "StenoError",
    "StoreDamaged",
    "StoreRefused",
    "StoreUnreachable",
    "TargetExists",
    "Template",
    "Unsupported",
    "User",
    "__version__",
    "store_from_environment",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415  only where a name is used

    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
