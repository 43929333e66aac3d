"""``steno backup`` and ``steno doctor``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from ..storage.backup import backup, dated
from ..storage.database import wall_ms
from ..storage.doctor import Finding, examine, mend, rebuild_index
from ..storage.errors import Incomplete
from ..storage.home import Home
from ..storage.restore import restore
from ..storage.store import Store
from .options import examples, format_option
from .progress import Progress
from .stores import reading, writing
from .terminal import counted, note, print_json, safe_line


@click.command(
    "backup",
    short_help="Copy the store into one file, or put such a copy back.",
    epilog=examples("steno backup", "steno backup /media/usb/steno.db", "steno backup --restore /media/usb/steno.db"),
)
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Write over FILE if it is there.")
@click.option("--restore", "restoring", is_flag=True, help="Put the backup FILE in the place of the store.")
@format_option
def back_up(*, file: Path | None, force: bool, restoring: bool, as_json: bool) -> None:
    """Copy the store, as it is now, into FILE; without FILE under a dated name in the home's backups/.

    Others may write meanwhile. Restoring keeps what it replaces in backups/; the daemon must not run. The restored
    store is another device from then on, so that nothing that was synced after the backup is lost.
    """
    if restoring:
        _restore(file, force=force, as_json=as_json)
        return
    if force and file is None:
        raise click.UsageError("--force writes over a FILE; name it")
    with reading() as store, _progress() as progress:
        target = (file or dated(Home.from_environment().backups, now_ms=wall_ms())).absolute()
        backup(store, target, overwrite=force, progress=_percent(progress, "copying"))
    sessions, messages = _count(target)
    if as_json:
        size = target.stat().st_size
        print_json({"file": str(target), "size_bytes": size, "sessions": sessions, "messages": messages})
    else:
        click.echo(safe_line(f"Saved {_held(sessions, messages)} in {target}"))


def _restore(file: Path | None, *, force: bool, as_json: bool) -> None:
    from ..daemon.lock import ProcessLock  # noqa: PLC0415  only here

    if file is None:
        raise click.UsageError("name the backup to restore; see the backups/ of your home")
    if force:
        raise click.UsageError("--restore needs no --force: what it replaces is kept")
    home = Home.from_environment()
    home.make()
    with (
        ProcessLock(home.daemon_lock, task="the daemon"),
        ProcessLock(home.sync_lock, task="syncing"),
        _progress() as progress,
    ):
        done = restore(file, home.database, backups=home.backups, progress=_percent(progress, "copying"))
    sessions, messages = _count(done.database)
    if as_json:
        kept = None if done.kept is None else str(done.kept)
        print_json({"device": done.device, "kept": kept, "sessions": sessions, "messages": messages})
        return
    click.echo(safe_line(f"Restored {_held(sessions, messages)} from {file}; this is device {done.device} now."))
    if done.kept is not None:
        click.echo(safe_line(f"What was here before is kept in {done.kept}"))
    if home.vault_file.exists():
        note("What was synced after the backup comes back with `steno sync`.")


@click.command(
    "doctor",
    short_help="Look whether everything is sound, say what to do, and mend what can be.",
    epilog=examples("steno doctor", "steno doctor --rebuild-index", "steno doctor --repair", "steno doctor --rebuild"),
)
@click.option("--rebuild-index", is_flag=True, help="Make the search index anew first.")
@click.option("--repair", is_flag=True, help="Make anew first what is counted, ordered or shown wrongly.")
@click.option(
    "--rebuild", "rebuilding", is_flag=True, help="Make a lost or damaged database anew, and do nothing else."
)
@click.option("--files-only", is_flag=True, help="With --rebuild: do not ask the remote.")
@click.option("--offline", is_flag=True, help="Do not ask the remote.")
@format_option
def doctor(
    *, rebuild_index: bool, repair: bool, rebuilding: bool, files_only: bool, offline: bool, as_json: bool
) -> None:
    """Look whether everything is sound, and say what to do where it is not; the exit code is 0 if it is and 8 if not.

    That is the database, the index, the files, the daemon, the clock, the disk, who may read this home, and whether the
    remote answers and the key opens what lies there.

    Nothing that anybody wrote is changed, whatever the options: what they make anew follows from that. With --rebuild
    a database that is lost or damaged is made anew from the remote, if there is one, and then from the files; the
    daemon must not run. A sound one is left as it is.
    """
    if rebuilding and (rebuild_index or repair):
        raise click.UsageError("--rebuild makes all of it anew; give it alone")
    if files_only and not rebuilding:
        raise click.UsageError("--files-only says how to --rebuild")
    if rebuilding and offline:
        raise click.UsageError("--rebuild goes without the remote with --files-only")
    if rebuilding:
        from .rebuilding import rebuild  # noqa: PLC0415  only here

        rebuild(Home.from_environment(), files_only=files_only, as_json=as_json)
        return
    if rebuild_index or repair:
        _mend(index=rebuild_index, caches=repair)
    found = _checked(Home.from_environment(), offline=offline)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        for each in found:
            click.echo("\n".join(map(safe_line, _lines(each))))
    wrong = [each for each in found if not each.ok]
    if wrong:
        raise Incomplete(count=len(wrong), hint=wrong[0].advice)


def _checked(home: Home, *, offline: bool) -> list[Finding]:
    from ..daemon.checkup import around, far  # noqa: PLC0415  cryptography and the network, which a backup needs not

    with _progress() as progress:
        with reading() as store:
            found = examine(store, told=progress.say)
            progress.say("looking at files, daemon and disk")
            found += around(store, home)
        if not offline:
            progress.say("asking the remote")
            found += asyncio.run(far(home))
    return found


def _mend(*, index: bool, caches: bool) -> None:
    with writing() as store, _progress() as progress:
        if index:
            rebuild_index(store, told=progress.say)
        if caches:
            mended = mend(store, told=progress.say)
            note(f"Made anew what was wrong in {counted(mended, 'session')}.")


def _lines(found: Finding) -> list[str]:
    lines = [f"{'ok   ' if found.ok else 'WRONG'}  {found.name:<10} {found.what}"]
    if found.advice:
        lines.append(f"{'':>18}→ {found.advice}")
    return lines


def _percent(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress.say(f"{what}: {100 * done // max(total, 1)} %")


def _count(path: Path) -> tuple[int, int]:
    with Store(path, read_only=True) as store:
        return store.count()


def _held(sessions: int, messages: int) -> str:
    return f"{counted(sessions, 'session')} with {counted(messages, 'message')}"


@contextmanager
def _progress() -> Generator[Progress]:
    progress = Progress()
    try:
        yield progress
    finally:
        progress.end()
