"""The verbs about this device and others: making a home, joining a vault, syncing, the daemon."""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ..daemon import control
from ..storage.errors import HomeExists, Incomplete, InvalidInput, LocalStorageError, StenoError
from ..storage.home import Home
from ..storage.steps import step
from ..storage.store import Store
from .options import examples, format_option
from .passphrases import passphrase_file_option, passphrase_of
from .pausing import metered_said, paused_said
from .progress import Progress, far
from .stores import opened
from .terminal import counted, note, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..daemon.client import DaemonClient, Way
    from ..daemon.listener import Listening


@click.command(epilog="Example:  steno init --remote /media/usb/steno")
@click.option("--remote", metavar="URL", help="A folder or other place where devices meet; without it, local only.")
@passphrase_file_option
@format_option
def init(remote: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a home on this machine, and with --remote a vault that other devices can join."""
    home = Home.from_environment()
    if home.exists and (remote is None or _belongs(home)):
        raise HomeExists(f"there is a home in {home.data} already")
    _refuse_files_without_store(home)
    if remote is not None and not _belongs(home):
        # First the vault: a remote that refuses leaves nothing behind.
        made = _make_vault(home, remote, passphrase_of(passphrase_file, confirm=True))
        asyncio.run(_probe(made.url))
    made_known(home, make_home(home), as_json=as_json)


@click.command(epilog="Example:  steno join /media/usb/steno")
@click.argument("url")
@passphrase_file_option
@format_option
def join(url: str, passphrase_file: Path | None, as_json: bool) -> None:
    """Join the vault at URL, which another device made, with its passphrase."""
    from ..daemon.lock import vault_lock  # noqa: PLC0415
    from ..sync.vault.membership import join_vault  # noqa: PLC0415  cryptography, not on the path of other verbs

    home = Home.from_environment()
    passphrase = passphrase_of(passphrase_file, confirm=False)
    asyncio.run(join_vault(home, url, passphrase=passphrase, lock=lambda: vault_lock(home)))
    made_known(home, make_home(home), as_json=as_json)


@click.command(epilog="Example:  steno up --yes")
@click.option("--yes", is_flag=True, help="Import what is found without asking.")
@click.option("--no-import", is_flag=True, help="Import nothing.")
def up(yes: bool, no_import: bool) -> None:
    """Set everything up and run: a home, a vault inside it, your sessions, and the daemon in the foreground."""
    home = Home.from_environment()
    client = control.running(home)
    if client is not None:
        click.echo(f"Steno already runs for {home.data} (process {client.running.pid}).")
        return
    if not home.exists:
        make_home(home)
        click.echo(f"Made a home in {home.data}")
    if not home.vault_file.exists() or not _belongs(home):
        found = _make_vault(home, str(home.default_remote), None)
        click.echo(f"Made a vault in {found.url}; the passphrase for another device to join it is")
        click.echo(f"\n    {found.recovery}\n")
        click.echo("(`steno vault recovery` prints it again; write it down)")
    if not no_import:
        from .finding import offer_import  # noqa: PLC0415  only here

        offer_import(yes=yes)
    _run_daemon(home, talk=True)


@click.command(epilog=examples("steno sync", "steno sync --push", "steno sync --pull --force --yes"))
@click.option("--push", is_flag=True, help="Only send what was written here.")
@click.option("--pull", is_flag=True, help="Only take in what is new.")
@click.option("--bidirectional", is_flag=True, help="Both, which is what happens without an option.")
@click.option("--force", is_flag=True, help="With --pull: discard what was never sent from here, after a backup.")
@click.option("--yes", "-y", is_flag=True, help="With --force: do not ask, also on a terminal.")
@format_option
def sync(*, push: bool, pull: bool, bidirectional: bool, force: bool, yes: bool, as_json: bool) -> None:
    """Send what was written here and take in what is new, now.

    With --force --pull this device becomes what the remote says: what was written here and never sent is discarded.
    Before that everything is copied into the home's backups/. The daemon must not run; where the remote does not give
    everything that was there, nothing is changed. The device goes on under another id.
    """
    if bidirectional and push != pull:
        raise click.UsageError("--bidirectional sends and takes in: it goes without --push and --pull")
    if force and (push or bidirectional or not pull):
        raise click.UsageError("--force goes with --pull alone")
    if yes and not force:
        raise click.UsageError("--yes goes with --force --pull")
    home = Home.from_environment()
    home.require()
    if force:
        from .pulling import pull_by_force  # noqa: PLC0415  only here

        pull_by_force(home, yes=yes, as_json=as_json)
        return
    only = None if push == pull else "push" if push else "pull"
    client = control.running(home)
    report = client.sync(only=only) if client is not None else msgspec.to_builtins(asyncio.run(_sync(home, only)))
    if as_json:
        print_json(report)
    else:
        click.echo(
            f"Sent {counted(report['sent_segments'], 'segment')}, received {report['received_segments']:,} "
            f"with {counted(report['received_messages'], 'new message')}."
        )
        for each in [*report["notes"], *report["rescued"], *report["problems"]]:
            click.echo(each, err=True)
    if report["problems"] or report["pending_segments"]:
        raise Incomplete(count=len(report["problems"]) + report["pending_segments"])


@click.command(epilog="Example:  steno status --json")
@format_option
def status(as_json: bool) -> None:
    """Say how this home stands: what is pending, where things lie, and what is wrong."""
    home = Home.from_environment()
    home.require()
    client = control.running(home)
    found = client.status() if client is not None else _status(home)
    try:
        home.settings()
    except InvalidInput as exc:
        found["problems"].append(exc.line)
    if as_json:
        print_json(found)
    else:
        _print_status(found)
    vault = found["vault"] or {}
    pending = vault.get("not_sent", 0) + vault.get("pending_segments", 0)
    if found["problems"] or pending:
        raise Incomplete(count=len(found["problems"]) + pending)


@click.group(epilog="Example:  steno daemon start")
def daemon() -> None:
    """Run, start and stop the daemon, which keeps files, remote and index up to date."""


@daemon.command("run", epilog="Example:  steno daemon run")
def daemon_run() -> None:
    """Run the daemon in the foreground until Ctrl-C or SIGTERM."""
    _run_daemon(Home.from_environment(), talk=sys.stderr.isatty())


@daemon.command("start", epilog="Example:  steno daemon start")
@format_option
def daemon_start(as_json: bool) -> None:
    """Start the daemon in the background and wait until it answers."""
    _tell_of(control.start(Home.from_environment()), as_json=as_json)


@daemon.command("stop", epilog="Example:  steno daemon stop")
@format_option
def daemon_stop(as_json: bool) -> None:
    """Stop the daemon and wait until it has ended."""
    pid = control.stop(Home.from_environment())
    if as_json:
        print_json({"running": False, "pid": pid})
    else:
        click.echo(f"The daemon (process {pid}) has stopped.")


@daemon.command("status", epilog="Example:  steno daemon status")
@format_option
def daemon_status(as_json: bool) -> None:
    """Say whether the daemon answers; the exit code is 0 only if it does."""
    from ..storage.errors import DaemonNotRunning  # noqa: PLC0415

    home = Home.from_environment()
    home.require()
    client = control.running(home)
    if client is None:
        raise DaemonNotRunning(home=str(home.data))
    _tell_of(client, as_json=as_json)


def _tell_of(client: DaemonClient, *, as_json: bool) -> None:
    """Say where a daemon runs."""
    at = client.running
    if as_json:
        print_json({"running": True, "pid": at.pid, "port": at.port})
    else:
        click.echo(f"The daemon runs (process {at.pid}) at http://127.0.0.1:{at.port}")


@click.command(epilog="Example:  steno demo")
def demo() -> None:
    """Watch two devices mirror sessions: two homes, two daemons, one folder, in a temporary directory."""
    from .demo import show  # noqa: PLC0415  only here

    show()


def make_home(home: Home) -> str:
    """Make the directories and the store; returns the device's id. Made twice they stay as they are."""
    _refuse_files_without_store(home)
    home.make()
    step("home.made")
    new = not home.exists
    try:
        with Store(home.database) as store:
            step("home.store-made")
            return store.device
    except LocalStorageError:
        if new:  # no room, say: a store that is not whole must not pass for one
            for path in home.data.glob(f"{home.database.name}*"):
                path.unlink(missing_ok=True)
        raise


def _refuse_files_without_store(home: Home) -> None:
    """Raise `HomeExists` where a home has lost its database: an empty one would take its files for those of another."""
    if not home.exists and home.has_files:
        raise HomeExists(
            f"there are files of sessions in {home.sessions}, and no database",
            hint="`steno doctor --rebuild` makes it anew from them",
        )


def _belongs(home: Home) -> bool:
    from ..sync.vault.membership import membership  # noqa: PLC0415

    return membership(home) is not None


def _make_vault(home: Home, url: str, passphrase: str | None) -> Any:
    import secrets  # noqa: PLC0415

    from ..sync.vault.kdf import KdfCost  # noqa: PLC0415
    from ..sync.vault.membership import make_vault  # noqa: PLC0415

    def made() -> str:
        letters = "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(20))
        return "-".join(letters[at : at + 5] for at in range(0, 20, 5))

    cost = KdfCost()
    return asyncio.run(make_vault(home, url, passphrase=passphrase, made=made, draw=secrets.token_bytes, cost=cost))


async def _probe(url: str) -> None:
    """Say what a service cannot do, where it is told best: when a vault was just made there."""
    import secrets  # noqa: PLC0415

    from ..sync.vault.probe import remarks_on  # noqa: PLC0415
    from ..sync.vault.remote import open_remote  # noqa: PLC0415

    remote = open_remote(url)
    try:
        for remark in await remarks_on(remote, draw=secrets.token_bytes):
            note(f"About {url}: {remark}")
    except StenoError as exc:
        note(exc.line)
    finally:
        await remote.close()


def made_known(home: Home, device: str, *, as_json: bool) -> None:
    """Print what a home is now."""
    from ..sync.vault.membership import membership  # noqa: PLC0415

    found = membership(home)
    if as_json:
        vault = None if found is None else {"id": found.vault, "remote": found.url}
        print_json({"home": str(home.data), "device": device, "vault": vault})
        return
    click.echo(f"Home:    {home.data}")
    click.echo(f"Device:  {device}")
    if found is not None:
        click.echo(f"Vault:   {found.vault} at {found.url}")
    click.echo("Next:    `steno daemon start`, or `steno import FILE`")


async def _sync(home: Home, only: Way | None) -> Any:
    from ..daemon.lock import ProcessLock  # noqa: PLC0415
    from ..sync.files.mirror import Mirror as FilesMirror  # noqa: PLC0415
    from ..sync.vault.membership import required_membership  # noqa: PLC0415
    from .syncing import alone  # noqa: PLC0415

    required_membership(home)
    progress = Progress()
    with ProcessLock(home.daemon_lock, task="the daemon"):
        async with alone(home) as (store, engine):
            engine.course.told = lambda found: progress.say(far(msgspec.to_builtins(found)))
            with closing(FilesMirror(store, home.sessions)) as mirror:
                aside = _mirrored(mirror.start)
                try:
                    report = await (engine.sync if only is None else engine.send if only == "push" else engine.pull)()
                    if only is None:
                        report.problems = (await engine.tend()).problems
                finally:
                    progress.end()
                report.problems += aside or _mirrored(mirror.write_due)
            return report


def _mirrored(call: Callable[[], None]) -> list[str]:
    """Do something for the files; what is wrong with them holds up no sync."""
    try:
        call()
    except StenoError as exc:
        return [exc.line]
    return []


def _status(home: Home) -> dict[str, Any]:
    from ..daemon.status import status_of  # noqa: PLC0415

    with opened(home.database) as store:
        return status_of(store, home)


def _print_status(found: dict[str, Any]) -> None:
    daemon_, vault, files = found["daemon"], found["vault"], found["files"]
    click.echo(f"Home:       {found['home']}")
    running = f"process {daemon_['pid']}, http://127.0.0.1:{daemon_['port']}" if daemon_ else "not running"
    click.echo(f"Daemon:     {running}")
    click.echo(f"Sessions:   {found['sessions']:,} with {counted(found['messages'], 'message')}")
    if found["local_only"]:
        click.echo(f"Local only: {found['local_only']:,} of them, which are sent nowhere")
    click.echo(f"Files:      {files['directory']}" + _and_pending(files["not_written"], "not written yet"))
    click.echo("Search:     ready" + _and_pending(found["search"]["not_indexed"], "not indexed yet"))
    if vault:
        click.echo(f"Remote:     {vault['remote']}" + _and_pending(vault["not_sent"], "not sent yet"))
        if vault.get("progress"):
            click.echo(f"Syncing:    {far(vault['progress'])}")
        if vault["paused_until"]:
            click.echo(f"Paused:     the daemon {paused_said(vault['paused_until'])}")
        if vault["metered_until"]:
            click.echo(f"Metered:    the daemon {metered_said(vault['metered_until'])}")
    else:
        click.echo("Remote:     none")
    click.echo(f"Conflicts:  {found['conflicts']}")
    for problem in found["problems"]:
        click.echo(f"Problem:    {problem}")
    for note_ in found["notes"]:
        click.echo(f"Note:       {note_}")


def _and_pending(count: int, what: str) -> str:
    return f" ({counted(count, 'change')} {what})" if count else ""


def _run_daemon(home: Home, *, talk: bool) -> None:
    import logging  # noqa: PLC0415

    from ..daemon.app import run  # noqa: PLC0415  aiohttp, watchdog, opendal: only where the daemon runs

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)

    def started(listening: Listening) -> None:
        if talk:
            click.echo(f"Files:    {home.sessions}  (open them in any editor; what you save is true everywhere)")
            click.echo(f"Address:  http://127.0.0.1:{listening.port}  (token in {home.token_file})")
            click.echo("Mirroring until Ctrl-C. In another terminal: steno list, steno search WORDS, steno status")

    asyncio.run(run(home, started=started))
