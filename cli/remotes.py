"""``steno remote``: where the vault of this home lies, and where else it is to be looked for."""

from __future__ import annotations

import asyncio

import click
import msgspec

from ..daemon.lock import ProcessLock, vault_lock
from ..storage.errors import NoVault
from ..storage.home import Home
from ..sync.vault.credentials import keep_credentials, places
from ..sync.vault.membership import Membership, remote_of, required_membership, take_up
from ..sync.vault.remote import folder_of
from .options import examples, format_option
from .terminal import print_json, safe_line


@click.group(
    epilog=examples("steno remote show", 'steno remote set "s3://bucket/steno?region=eu-central-1"'),
)
def remote() -> None:
    """Say where the vault lies, or look for it at another place."""


@remote.command(epilog=examples("steno remote show", "steno remote show --json"))
@format_option
def show(*, as_json: bool) -> None:
    """Print the address of this home's vault. It holds no credentials: see `steno remote credentials`."""
    found = required_membership(_home())
    if as_json:
        print_json({"vault": found.vault, "remote": found.url})
    else:
        click.echo(safe_line(found.url))


@remote.command(
    "set", epilog=examples("steno remote set /media/usb/steno", "steno remote set redis://nas:6379/0?prefix=steno")
)
@click.argument("url")
@format_option
def set_remote(*, url: str, as_json: bool) -> None:
    """Look for this home's vault at URL from now on.

    The vault must lie there already: copy everything from the old place first. Nothing is written at either place, and
    the other devices need the same command.
    """
    home = _home()
    found = required_membership(home)
    folder = folder_of(url)
    there = msgspec.structs.replace(found, url=url if folder is None else str(folder))
    with ProcessLock(home.sync_lock, task="syncing"):
        try:
            asyncio.run(_checked(there))
        except NoVault as exc:
            exc.hint = f"copy all objects from {safe_line(found.url)} there first, as docs/remotes.md shows"
            raise
        take_up(home, url=there.url, vault=there.vault, keyring=there.keyring, lock=lambda: vault_lock(home))
    if as_json:
        print_json({"vault": found.vault, "remote": there.url})
    else:
        click.echo(f"The vault {found.vault} is looked for at {safe_line(there.url)} from now on.")


@remote.command(epilog=examples("steno remote credentials", "steno remote credentials --to keyring"))
@click.option("--to", "place", type=click.Choice(["keyring", "file"]), help="Keep them there from now on.")
@format_option
def credentials(*, place: str | None, as_json: bool) -> None:
    """List what the remote's service is told besides its address, by name, and from where it is taken.

    With --to keyring, what stands in the file `credentials` beside config.toml is moved into the system's keyring. What
    is written into the file afterwards counts, and is moved by the same command.
    """
    home = _home()
    if place is not None:
        keep_credentials(home, in_keyring=place == "keyring", lock=lambda: vault_lock(home))
    found = places(home)
    if as_json:
        print_json(found)
        return
    for name, where in found.items():
        click.echo(f"{safe_line(name)}  {where}")
    if not found:
        click.echo(f"There are none in {home.credentials_file}.")


async def _checked(there: Membership) -> None:
    """Raise `NoVault` or `OtherVault` unless the vault lies there."""
    async with remote_of(there):
        pass


def _home() -> Home:
    home = Home.from_environment()
    home.require()
    return home
