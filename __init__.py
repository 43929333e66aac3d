"""Steno keeps a person's AI and chat sessions.

The public library. Names are looked up when they are first used, so that a command that
only reads starts fast (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .storage.errors import StenoError
    from .storage.model import Message, NewMessage, SessionHeader
    from .storage.store import Store

__version__ = "0.1.0"

_HOMES = {
    "StenoError": "storage.errors",
    "Message": "storage.model",
    "NewMessage": "storage.model",
    "SessionHeader": "storage.model",
    "Store": "storage.store",
}

__all__ = ["Message", "NewMessage", "SessionHeader", "StenoError", "Store", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415  only where a name is used

    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
