"""``steno config``: what a person may set, read and changed one key at a time, or in an editor."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import click

from ..storage.errors import InvalidInput, LocalStorageError
from ..storage.home import Home, private_directory
from ..storage.model import Json
from ..storage.settings_file import (
    Setting,
    all_settings,
    replace_settings,
    set_setting,
    setting,
    settings_text,
    unset_setting,
)
from .editors import Editor, editor
from .options import examples, format_option
from .terminal import note, one_line_json, print_json, safe_line

_PASSWORD = re.compile("(://[^/@:]*):[^/@]*@")


@click.group(
    short_help="Read and change the settings.",
    epilog=examples("steno config list", "steno config set session.autosave_interval 60", "steno config edit"),
)
def config() -> None:
    """Read and change the settings of this device, which stand in its config.toml.

    A key is named with its section, as session.backend. docs/config.md says what each does. What cannot be read again
    is never written; comments in the file stay.
    """


@config.command("list", epilog=examples("steno config list", "steno config list --json"))
@format_option
def list_settings(*, as_json: bool) -> None:
    """Print every setting, and which of them somebody set."""
    found = all_settings(Home.from_environment().settings())
    if as_json:
        print_json({each.name: _discreet(each.value) for each in found})
        return
    for each in found:
        click.echo(_line(each))


@config.command(epilog=examples("steno config get daemon.port", "steno config get vault.local-only --json"))
@click.argument("key", metavar="KEY")
@format_option
def get(*, key: str, as_json: bool) -> None:
    """Print one setting: what stands in the file, or its default."""
    found = setting(Home.from_environment().settings(), key)
    if as_json:
        print_json(found.value)
    elif isinstance(found.value, list):
        for each in found.value:
            click.echo(safe_line(str(each)))
    elif found.value is not None:
        click.echo(safe_line(found.value if isinstance(found.value, str) else one_line_json(found.value)))


@config.command(
    "set",
    epilog=examples(
        "steno config set session.autosave_interval 60",
        "steno config set vault.local-only private diary",
        "steno config set daemon.port --unset",
    ),
)
@click.argument("key", metavar="KEY")
@click.argument("values", metavar="[VALUE]...", nargs=-1)
@click.option("--unset", is_flag=True, help="Remove it from the file, so that its default counts.")
@format_option
def set_key(*, key: str, values: tuple[str, ...], unset: bool, as_json: bool) -> None:
    """Set one setting. Several values are a list; '[]' is an empty one.

    A value that the key cannot have is refused, and nothing is changed. A daemon that runs takes up most settings when
    it starts again.
    """
    if unset == bool(values):
        raise click.UsageError("give a VALUE, or --unset")
    home = Home.from_environment()
    if unset:
        if not unset_setting(home, key):
            note(f"{key} was not set.")
        known = {each.name: each for each in all_settings(home.settings())}
        changed = known.get(key, Setting(key, None, is_default=True))  # what is no setting could only be removed
    else:
        changed = set_setting(home, key, values)
    if as_json:
        print_json({changed.name: _discreet(changed.value)})
    else:
        click.echo(_line(changed))


@config.command(epilog=examples("steno config path", 'grep -n port "$(steno config path)"'))
@format_option
def path(*, as_json: bool) -> None:
    """Print where the settings stand, whether the file is there or not."""
    place = Home.from_environment().config_file
    if as_json:
        print_json({"path": str(place), "exists": place.exists()})
    else:
        click.echo(safe_line(str(place)))


@config.command(epilog=examples("steno config edit", "EDITOR=nano steno config edit"))
@format_option
def edit(*, as_json: bool) -> None:
    """Edit the settings, in $VISUAL, $EDITOR, nano or vim; what can be read is taken up.

    What cannot be read is not taken: you may open it again, and without a terminal it is kept beside the file.
    """
    home, with_ = Home.from_environment(), editor()
    before = settings_text(home).encode()
    copy = _copy(home, before)
    try:
        changed = _edited(home, with_, copy, before)
    except LocalStorageError:
        copy.unlink(missing_ok=True)
        raise
    except InvalidInput as exc:
        exc.hint = f"nothing was changed; what you typed is kept in {copy}"
        raise
    except click.Abort:
        note(f"Nothing was changed; what you typed is kept in {copy}")
        raise
    copy.unlink(missing_ok=True)
    if as_json:
        print_json({"path": str(home.config_file), "changed": changed})
    else:
        click.echo(safe_line(f"{'Changed' if changed else 'Nothing was changed in'} {home.config_file}"))


def _copy(home: Home, text: bytes) -> Path:
    """A file to edit in the place of the settings; only its owner may read it."""
    private_directory(home.config_file.parent)
    descriptor, name = tempfile.mkstemp(prefix="config.", suffix=".toml", dir=home.config_file.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    return Path(name)


def _edited(home: Home, with_: Editor, copy: Path, before: bytes) -> bool:
    """Let the settings be edited until they can be read, and take them up; False where nothing was changed."""
    while True:
        if code := with_.run(str(copy)):
            raise LocalStorageError(
                f"{with_.name} ended with code {code}", hint="nothing was changed; see what it said"
            )
        after = copy.read_bytes()
        if after == before:
            return False
        try:
            _take(home, after, before)
        except InvalidInput as exc:
            if not sys.stdin.isatty():
                raise
            note(f"Error: {exc.line}")
            if not click.confirm("Open it again?", default=True, err=True):
                raise
        else:
            return True


def _take(home: Home, after: bytes, before: bytes) -> None:
    try:
        text = after.decode()
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"the settings are not UTF-8 text ({exc.reason} at byte {exc.start})") from exc
    if settings_text(home).encode() != before:
        raise InvalidInput(f"{home.config_file} was changed by somebody else meanwhile")
    replace_settings(home, text)


def _line(found: Setting) -> str:
    return safe_line(f"{found.name} = {_toml(_discreet(found.value))}{'  # default' if found.is_default else ''}")


def _toml(value: Json) -> str:
    """A value as TOML has it, which is as JSON has it; a place that is none is said in words."""
    return "the home" if value is None else one_line_json(value)


def _discreet(value: Json) -> Json:
    """A value to be shown unasked: an address without the password in it."""
    return _PASSWORD.sub(r"\1:…@", value) if isinstance(value, str) else value
