"""What a person may set, in ``config.toml`` or in the mapping that a program gives the library.

One function reads both, and says all that is wrong at once, each with its whole key. What a key
may hold stands in its type, with the words for it; docs/config.md is compared with them
(tests/unit/test_settings.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .errors import InvalidInput

_FINITE = sys.float_info.max  # TOML has inf and nan

Port = Annotated[int, Meta(ge=0, le=65535, description="a whole number from 0 to 65535")]
Durability = Annotated[Literal["normal", "full"], Meta(description='"normal" or "full"')]
Backend = Annotated[
    Literal["sqlite", "memory", "redis", "postgres"], Meta(description='"sqlite", "memory", "redis" or "postgres"')
]
Place = Annotated[Annotated[str, Meta(min_length=1)] | None, Meta(description="text with at least one character")]
Seconds = Annotated[float, Meta(ge=0, le=_FINITE, description="a number of seconds, 0 or more")]
KeyPlace = Annotated[Literal["file", "keyring"], Meta(description='"file" or "keyring"')]
Megabytes = Annotated[float, Meta(gt=0, le=_FINITE, description="a number of MB, more than 0")]
Connections = Annotated[int, Meta(ge=1, le=100, description="a whole number from 1 to 100")]
Count = Annotated[int, Meta(ge=0, description="a whole number, 0 or more")]
Names = Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(description="a list of names")]
Switch = Annotated[bool, Meta(description="true or false")]


class Daemon(msgspec.Struct, frozen=True):
    """``[daemon]``: ``port`` 0 takes any free one."""

    port: Port = 7836


class Session(msgspec.Struct, frozen=True):
    """``[session]``: ``storage_path`` None is the home's store, ``autosave_interval`` 0 saves only when asked.

    ``providers`` are those that `steno create` takes; none: any.
    """

    backend: Backend = "sqlite"
    storage_path: Place = None
    autosave_interval: Seconds = 300
    max_session_size: Megabytes = 100
    compress_messages: Switch = True
    connection_pool_size: Connections = 5
    message_cache_size: Count = 1000
    strict_users: Switch = False
    providers: Names = ("anthropic", "openai", "azure", "bedrock", "gemini", "ollama", "meta")


class Storage(msgspec.Struct, frozen=True):
    """``[storage]``: what a write that returned survives; "full" also the loss of power."""

    durability: Durability = "normal"


class Vault(msgspec.Struct, frozen=True, rename={"local_only": "local-only"}):
    """``[vault]``: where this device keeps the vault's key, and the projects whose sessions stay here."""

    key: KeyPlace = "file"
    local_only: Names = ()


class Settings(msgspec.Struct, frozen=True):
    """Everything that can be set, by section."""

    daemon: Daemon = Daemon()
    session: Session = Session()
    storage: Storage = Storage()
    vault: Vault = Vault()


def settings_of(mapping: Mapping[str, Any], *, where: str) -> Settings:
    """The settings that a mapping of sections makes, defaults elsewhere; ``where`` names it in the error.

    Raises `InvalidInput` for keys that are unknown and for values that are none of theirs.
    """
    faults: list[str] = []
    sections = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    found: dict[str, Any] = {}
    for name, given in mapping.items():
        if name not in sections:
            faults.append(f"[{name}] is not a section{_suggestion(name, sections)}")
        elif not isinstance(given, Mapping):
            faults.append(f"[{name}] must be a section with keys, not {_shown(given)}")
        else:
            found[name] = _section(sections[name], name, given, faults)
    if faults:
        raise InvalidInput(f"{where}: {'; '.join(faults)}")
    return Settings(**found)


def _section(kind: Any, name: str, given: Mapping[str, Any], faults: list[str]) -> Any:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    types = {key: field.type for key, field in fields.items()}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in types:
            faults.append(f"[{name}] {key} is not a setting{_suggestion(key, types)}")
            continue
        try:
            values[fields[key].name] = msgspec.convert(value, types[key])
        except msgspec.ValidationError:
            faults.append(f"[{name}] {key} must be {wanted(types[key])}, not {_shown(value)}")
    return kind(**values)


def wanted(kind: Any) -> str:
    """The words for what a setting of this type may hold."""
    return next(meta.description for meta in kind.__metadata__ if meta.description)


def _suggestion(unknown: object, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415  only for somebody who mistyped

    names = list(known)
    near = difflib.get_close_matches(str(unknown), names, n=1)
    return f" (did you mean {near[0]}?)" if near else f" (there are {', '.join(names)})"


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
