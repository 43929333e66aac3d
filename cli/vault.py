"""The verbs about the vault itself: its passphrase, its key, leaving it, deleting it, and letting a device join.

What they do is in `sync.vault`; here a person is asked. Passphrases and secrets are typed or read from a file, and
printed only where they were made here (tests/e2e/test_vault_keys.py).
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import click
import msgspec

from ..daemon import control
from ..daemon.lock import ProcessLock, vault_lock
from ..daemon.status import status_of
from ..storage.database import wall_ms
from ..storage.errors import Incomplete, InvalidInput, NoVault, RemoteRefused, RemoteUnreachable, StenoError, WrongKey
from ..storage.home import Home
from ..storage.local_only import share as let_be_sent
from ..storage.model import format_ms
from ..storage.shape import session_json
from ..storage.steps import step
from ..storage.store import Store
from ..sync.vault import membership, pairing, rotation
from ..sync.vault.kdf import KdfCost
from ..sync.vault.ledger import Ledger
from ..sync.vault.membership import Membership, remote_of, required_membership
from ..sync.vault.names import LOG, PAIR, PairName, SegmentName
from ..sync.vault.own_log import OwnLog
from ..sync.vault.remote import Remote
from ..sync.vault.revoked import published
from ..sync.vault.vault import delete_vault
from .options import examples, format_option
from .passphrases import passphrase_file_option, passphrase_of, secret_in
from .service import made_known, make_home
from .stores import writing
from .syncing import alone, engine_of
from .terminal import counted, local_time, note, print_json, safe_line

_WAIT_EVERY_S = 1.0
_MOST_NAMED = 5
_UNSENT = (
    "SELECT id FROM sessions s WHERE NOT s.local_only AND (s.seq > ?1 AND s.local_seq > ?2 OR EXISTS (SELECT 1 "
    "FROM messages m WHERE m.session = s.no AND m.seq > ?1 AND m.local_seq > ?2)) ORDER BY id LIMIT ?3"
)


@click.group(
    epilog=examples("steno vault recovery", "steno vault passwd", "steno vault rotate", "steno vault leave"),
)
def vault() -> None:
    """Look after the vault's passphrase and key, leave it, or delete it."""


@vault.command(short_help="Print the passphrase that was made here.", epilog=examples("steno vault recovery"))
@format_option
def recovery(*, as_json: bool) -> None:
    """Print the passphrase that was made here, for another device to join; one that a person chose is kept nowhere."""
    found = required_membership(_home())
    if found.recovery is not None:
        try:
            if not asyncio.run(rotation.opens(found, passphrase=found.recovery)):
                raise rotation.PassphraseChanged(vault=found.vault)
        except (RemoteUnreachable, RemoteRefused, NoVault) as exc:
            note(f"Whether it still opens the vault is not known: {exc.line}")
    if as_json:
        print_json({"vault": found.vault, "remote": found.url, "passphrase": found.recovery})
    elif found.recovery is not None:
        click.echo(found.recovery)
    else:
        click.echo("The passphrase was chosen by a person and is kept nowhere; `steno vault passwd` sets another one.")


@vault.command(short_help="Keep the key where the settings say.", epilog=examples("steno vault key"))
@format_option
def key(*, as_json: bool) -> None:
    """Keep the vault's key where the settings say ([vault] key: "file" or "keyring"), and say where it is."""
    home = _home()
    membership.move_keys(home, lock=lambda: vault_lock(home))
    kept = "keyring" if membership.in_keyring(home) else "file"
    wanted = home.settings().vault.key
    if as_json:
        print_json({"kept": kept, "wanted": wanted})
    elif kept == "keyring":
        click.echo("The vault's key is in the system's keyring.")
    else:
        click.echo(f"The vault's key is in {home.vault_file}, which only you can read.")
    if kept != wanted:
        raise Incomplete(count=1, hint="the system's keyring could not be used: unlock it and run this again")


@vault.command(
    short_help="Give the vault another passphrase.",
    epilog=examples("steno vault passwd", "steno vault passwd --passphrase-file new.txt"),
)
@passphrase_file_option
@format_option
def passwd(*, passphrase_file: Path | None, as_json: bool) -> None:
    """Give the vault another passphrase. Devices that have the vault go on; only who joins later needs it.

    It is asked twice; without a terminal, STENO_PASSPHRASE or the file holds the new one.
    """
    home = _home()
    found = required_membership(home)
    passphrase = passphrase_of(passphrase_file, confirm=True, prompt="New passphrase")
    changed = asyncio.run(
        rotation.change_passphrase(
            home, passphrase=passphrase, draw=secrets.token_bytes, cost=KdfCost(), lock=lambda: vault_lock(home)
        )
    )
    if as_json:
        print_json({"vault": found.vault, "changed": changed})
    else:
        click.echo("The passphrase was changed." if changed else "The vault has this passphrase already.")


@vault.command(
    short_help="Give the vault a new key.",
    epilog=examples("steno vault rotate", "steno vault rotate --revoke", "steno vault rotate --passphrase-file it.txt"),
)
@click.option("--revoke", is_flag=True, help="Let no device follow without the new passphrase, which is asked.")
@passphrase_file_option
@format_option
def rotate(*, revoke: bool, passphrase_file: Path | None, as_json: bool) -> None:
    """Give the vault a new key, for what is sent from now on; what lies there is sealed anew by its own devices.

    It asks for the present passphrase. Devices that hold the former key follow by themselves, and so could somebody
    who stole it: then use --revoke, which asks for a new passphrase, and run `steno join URL` on every other device.
    What is there is taken in first; what somebody sends under the former keys afterwards is set aside.
    """
    home = _home()
    found = required_membership(home)
    with Store(home.database) as store:
        done = asyncio.run(_rotated(home, found.recovery, revoke=revoke, file=passphrase_file))
        OwnLog(Ledger(store, found.vault)).owe_sign()
    if as_json:
        print_json({"vault": found.vault, "key": done.key, "revoked": revoke})
        return
    click.echo(f"The vault's key is now {done.key}; what is sent from now on is sealed with it.")
    if revoke:
        click.echo(f"On every other device run `steno join {safe_line(found.url)}` with the new passphrase.")
    click.echo("The other devices see it with the next `steno sync` here, or at once where the daemon runs.")


@vault.command(epilog=examples("steno vault leave"))
@click.option("--force", is_flag=True, help="Leave also where something was not sent; it stays on this device.")
@format_option
def leave(*, force: bool, as_json: bool) -> None:
    """Let this home forget its vault. Sessions stay here and on the other devices, and the remote is not touched."""
    home = _home()
    found = required_membership(home)
    with ProcessLock(home.sync_lock, task="syncing"):
        unsent, named = _unsent(home, found.vault)
        if unsent and not force:
            were = "s of this device were" if unsent > 1 else " of this device was"
            what = f"{unsent:,} change{were} not sent{named}"
            if not sys.stdin.isatty():
                raise InvalidInput(what, hint="`steno sync` sends them, --force leaves without")
            click.confirm(f"{what}; leave all the same?", abort=True, err=True)
        membership.leave(home, lock=lambda: vault_lock(home))
    if as_json:
        print_json({"left": found.vault, "remote": found.url, "passphrase": found.recovery})
        return
    click.echo(f"This home has left the vault {found.vault} at {safe_line(found.url)}; its sessions stay here.")
    if found.recovery is not None:
        click.echo("The passphrase of the vault was made here and is no longer kept; write it down:")
        click.echo(f"\n    {found.recovery}\n")


@vault.command(
    short_help="Delete the vault from the remote, for all.",
    epilog=examples("steno vault delete", "steno vault delete k3v9x0a1b2c4"),
)
@click.argument("vault_id", metavar="[VAULT]", required=False)
@click.option("--force", is_flag=True, help="Delete also what this device could not read.")
@format_option
def delete(*, vault_id: str | None, force: bool, as_json: bool) -> None:
    """Delete the vault from the remote: everything that any device has sent. Every device keeps its own sessions.

    It asks for the vault's id, or takes it as argument. First it takes in what is new on the remote.
    """
    home = _home()
    found = required_membership(home)
    if vault_id is None:
        if not sys.stdin.isatty():
            raise InvalidInput("deleting a vault must be confirmed", hint=f"run `steno vault delete {found.vault}`")
        click.echo(f"This deletes the vault {found.vault} at {safe_line(found.url)} for all its devices.", err=True)
        vault_id = click.prompt("Type its id", err=True)
    if vault_id != found.vault:
        raise InvalidInput(f"this home's vault is {found.vault}, not {safe_line(str(vault_id))}")
    with ProcessLock(home.sync_lock, task="syncing"), Store(home.database) as store:
        try:
            foreign = asyncio.run(_delete(home, store, found, force=force))
        except NoVault as exc:
            exc.hint = "`steno vault leave` lets this home forget it"
            raise
        step("delete.vault-deleted")
        membership.leave(home, lock=lambda: vault_lock(home))
        step("delete.left")
        Ledger(store, found.vault).forget_vault()
    if as_json:
        print_json({"deleted": found.vault, "remote": found.url, "foreign": foreign})
        return
    click.echo(f"The vault {found.vault} at {safe_line(found.url)} is deleted; the sessions of this home stay here.")
    click.echo("On its other devices run `steno vault leave`.")
    if foreign:
        note(f"Left alone what is not the vault's: {counted(len(foreign), 'file')}, such as {foreign[0]}")


@vault.command(short_help="Send sessions that were local-only.", epilog=examples("steno vault share k3v9"))
@click.argument("sessions", metavar="ID...", nargs=-1, required=True)
@format_option
def share(*, sessions: tuple[str, ...], as_json: bool) -> None:
    """Let sessions that were local-only be sent, with all that they hold; nothing takes that back.

    All of them, or none if one is unknown, or names another that stays local-only.
    """
    with writing() as store, store.transaction():
        done = let_be_sent(store, [store.resolve(each) for each in sessions])
    if as_json:
        print_json([session_json(each) for each in done])
        return
    for each in done:
        click.echo(safe_line(f"Session {each.id} goes to the other devices from now on"))


@click.command(epilog=examples("steno pair", "steno pair CODE"))
@click.argument("code", metavar="[CODE]", required=False)
@click.option("--at", "url", metavar="URL", help="Where the vault lies for this device, if not where the code says.")
@click.option("--secret-file", type=click.Path(path_type=Path, dir_okay=False), help="Read the secret from this file.")
@click.option("--no-wait", is_flag=True, help="Print code and secret and end; the offer stands for ten minutes.")
@format_option
def pair(*, code: str | None, url: str | None, secret_file: Path | None, no_wait: bool, as_json: bool) -> None:
    """Let another device join this vault without the passphrase.

    Here it prints a code and a secret, good for ten minutes and one device. There, run `steno pair CODE` and type the
    secret. Send the code as you like; tell the secret by another way.
    """
    home = Home.from_environment()
    if code is None:
        if url is not None or secret_file is not None:
            raise click.UsageError("--at and --secret-file go with a CODE")
        _offer(_home(), wait=not no_wait, as_json=as_json)
        return
    wanted = pairing.parse_code(code)
    click.echo(f"The vault {wanted.vault} lies at {safe_line(url or wanted.url)}", err=True)
    secret = pairing.typed_secret(_secret(secret_file))
    accepted = pairing.accept(home, wanted, secret=secret, now_ms=wall_ms(), lock=lambda: vault_lock(home), url=url)
    asyncio.run(accepted)
    made_known(home, make_home(home), as_json=as_json)


def _home() -> Home:
    home = Home.from_environment()
    home.require()
    return home


async def _rotated(home: Home, recovery: str | None, *, revoke: bool, file: Path | None) -> rotation.Rotated:
    async def change(how: Callable[..., Awaitable[rotation.Rotated]], passphrase: str) -> rotation.Rotated:
        lock = partial(vault_lock, home)
        return await how(home, passphrase=passphrase, draw=secrets.token_bytes, cost=KdfCost(), lock=lock)

    if revoke:
        passphrase = passphrase_of(file, confirm=True, prompt="New passphrase")
        return await change(partial(rotation.revoke, published=await _taken_in(home)), passphrase)
    if recovery is not None and file is None:
        with suppress(WrongKey):  # another device may have changed it
            return await change(rotation.rotate, recovery)
    return await change(rotation.rotate, passphrase_of(file, confirm=False))


async def _taken_in(home: Home) -> dict[str, int]:
    """Take in what the remote holds, if that can be done; the last publication of each device."""
    client = control.running(home)
    try:
        if client is not None:
            await asyncio.to_thread(client.sync, only="pull")
        else:
            async with alone(home) as (_, engine):
                await engine.pull()
    except StenoError as exc:  # a thief is not waited for
        note(f"{exc.line}; what is not taken in yet is set aside until its device has joined again")
    with Store(home.database, read_only=True) as store:
        return published(Ledger(store, required_membership(home).vault))


def _unsent(home: Home, vault_id: str) -> tuple[int, str]:
    """How much was not sent, and in which sessions it stands."""
    with Store(home.database, read_only=True) as store:
        found = status_of(store, home)["vault"]
        rows = store.execute(_UNSENT, (*OwnLog(Ledger(store, vault_id)).position, _MOST_NAMED + 1)).fetchall()
    sessions = [safe_line(session) for (session,) in rows]
    shown = ", ".join(sessions[:_MOST_NAMED]) + (" and others" if len(sessions) > _MOST_NAMED else "")
    return found["not_sent"] + found["pending_segments"], f" (in {shown})" if sessions else ""


async def _delete(home: Home, store: Store, found: Membership, *, force: bool) -> list[str]:
    async with engine_of(home, store, found=found) as engine, remote_of(found) as remote:
        await engine.pull()
        unread = await _unread(remote, Ledger(store, found.vault))
        if unread and not force:
            named = ", ".join(unread[:_MOST_NAMED])
            raise InvalidInput(
                f"{counted(len(unread), 'object')} that this device has not taken in would be lost ({named})",
                hint="see `steno status`; --force deletes them all the same",
            )
        return await delete_vault(remote, vault_id=found.vault)


async def _unread(remote: Remote, ledger: Ledger) -> list[str]:
    """The segments that hold what this device has not applied."""
    applied, cursor = ledger.applied(), ledger.cursor()
    return [
        name.path
        for name in filter(None, map(SegmentName.parse, await remote.list(LOG)))
        if name.path not in applied and (name.level == 0 or not cursor.covers(name.device, name.first, name.last))
    ]


def _offer(home: Home, *, wait: bool, as_json: bool) -> None:
    found = required_membership(home)
    secret, now_ms = pairing.new_secret(secrets.token_bytes), wall_ms()
    ends_ms = now_ms + pairing.OPEN_FOR_MS

    async def offered() -> None:
        async with remote_of(found) as remote:
            keyring = await rotation.all_keys(
                home, remote, found.keyring, vault_id=found.vault, lock=partial(vault_lock, home)
            )
            code = await pairing.offer(
                remote,
                msgspec.structs.replace(found, keyring=keyring),
                secret=secret,
                now_ms=now_ms,
                draw=secrets.token_bytes,
                cost=KdfCost(),
            )
            _print_offer(pairing.code_text(code), secret, ends_ms=ends_ms, as_json=as_json)
            if wait:
                await _wait(remote, PairName(code.offer).path, ends_ms=ends_ms)

    asyncio.run(offered())


def _print_offer(code: str, secret: str, *, ends_ms: int, as_json: bool) -> None:
    if as_json:
        print_json({"code": code, "secret": secret, "expires_at": format_ms(ends_ms)})
        return
    click.echo("On the other device run")
    click.echo(f"\n    steno pair {code}\n")
    click.echo("and type this secret, which you tell by another way than the code:")
    click.echo(f"\n    {secret}\n")
    click.echo(f"Good for one device, until {local_time(format_ms(ends_ms), '%H:%M')}.")


async def _wait(remote: Remote, name: str, *, ends_ms: int) -> None:
    """Wait until the offer was taken; take it back when it has expired, or when nobody waits any more."""
    note("Waiting for the other device; Ctrl-C takes the offer back.")
    try:
        while wall_ms() < ends_ms:
            if name not in await remote.list(PAIR):
                note("The other device has joined.")
                return
            await asyncio.sleep(_WAIT_EVERY_S)
        note("Nobody joined; the offer has expired.")
    finally:
        await remote.delete(name)


def _secret(file: Path | None) -> str:
    if file is None:
        if sys.stdin.isatty():
            return click.prompt("Secret", err=True)
        return sys.stdin.readline()
    return secret_in(file)
