"""Changing ``config.toml``: one key at a time, and everything else in it stays as a person wrote it.

What would not be read again is never written (tests/unit/test_settings_file.py).
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from .errors import InvalidInput
from .home import Home, private_directory, write_private
from .model import Json
from .settings import Settings, settings_of

if TYPE_CHECKING:
    from tomlkit import TOMLDocument


class Setting(NamedTuple):
    """One key: its name with its section, its value, and whether that is its default."""

    name: str
    value: Json
    is_default: bool


def all_settings(settings: Settings) -> list[Setting]:
    """Every key that there is, in the order of docs/config.md."""
    found = []
    for section in msgspec.structs.fields(Settings):
        values, defaults = getattr(settings, section.name), section.default
        for field in msgspec.structs.fields(section.type):
            value = msgspec.json.decode(msgspec.json.encode(getattr(values, field.name)))
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # as people write it
            is_default = getattr(values, field.name) == getattr(defaults, field.name)
            found.append(Setting(f"{section.name}.{field.encode_name}", value, is_default))
    return found


def setting(settings: Settings, name: str) -> Setting:
    """One key by its name, as ``session.backend``; raises `InvalidInput` for one that does not exist."""
    every = {each.name: each for each in all_settings(settings)}
    found = every.get(name)
    if found is None:
        near = difflib.get_close_matches(name, [*every, *(each.partition(".")[2] for each in every)], n=1)
        full = next((each for each in every if near and each.endswith(near[0])), None)
        raise InvalidInput(
            f"there is no setting {name}", hint=f"did you mean {full}?" if full else "see `steno config list`"
        )
    return found


def set_setting(home: Home, name: str, words: Sequence[str]) -> Setting:
    """Set one key to what a person typed, and return it as it is read now.

    Several words are a list. A word is read as TOML where the key may be that, else it is text. Raises `InvalidInput`,
    and nothing is written.
    """
    setting(Settings(), name)
    section, _, key = name.partition(".")
    document = _document(home)
    table = document.setdefault(section, {})
    if not isinstance(table, dict):
        raise InvalidInput(f"{home.config_file}: [{section}] must be a section with keys")
    faults: list[InvalidInput] = []
    for value in _meant(words):
        table[key] = value
        try:
            settings = _checked(home, document)
        except InvalidInput as exc:
            faults.append(exc)
        else:
            _write(home, document)
            return setting(settings, name)
    raise faults[0]


def unset_setting(home: Home, name: str) -> bool:
    """Remove one key, so that its default counts, also one that is no setting; False where it was not set."""
    section, _, key = name.partition(".")
    document = _document(home)
    table = document.get(section)
    if not isinstance(table, dict) or key not in table:
        setting(Settings(), name)
        return False
    del table[key]
    _checked(home, document)
    _write(home, document)
    return True


def replace_settings(home: Home, text: str) -> Settings:
    """Put a whole file in the place of the settings; raises `InvalidInput`, and nothing is written."""
    try:
        read = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise InvalidInput(f"{home.config_file} cannot be read ({exc})") from exc
    settings = settings_of(read, where=str(home.config_file))
    private_directory(home.config_file.parent)
    write_private(home.config_file.resolve(), text.encode())
    return settings


def settings_text(home: Home) -> str:
    """The file as it stands; the empty text where there is none. Raises `InvalidInput`."""
    try:
        return home.config_file.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"{home.config_file} cannot be read ({exc})") from exc


def _document(home: Home) -> TOMLDocument:
    import tomlkit  # noqa: PLC0415  only where something is changed
    from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415

    try:
        return tomlkit.parse(settings_text(home))
    except (TOMLKitError, RecursionError) as exc:
        raise InvalidInput(
            f"{home.config_file} cannot be read ({exc})", hint="mend it with `steno config edit`"
        ) from exc


def _checked(home: Home, document: TOMLDocument) -> Settings:
    return settings_of(document.unwrap(), where=str(home.config_file))


def _write(home: Home, document: TOMLDocument) -> None:
    replace_settings(home, document.as_string())


def _meant(words: Sequence[str]) -> list[Any]:
    """What a person may have meant, the likeliest first."""
    if len(words) != 1:
        return [list(words)]
    [word] = words
    try:
        read = tomllib.loads(f"value = {word}")
    except (tomllib.TOMLDecodeError, RecursionError):
        read = {}
    return [*([read["value"]] if read.keys() == {"value"} else []), word, [word]]
