"""What is around a store, looked at for `steno doctor`: its files, remote, key, clock, daemon and disk.

Each check is a value as those of `storage.doctor` are; nothing is written, neither here nor on the remote
(tests/unit/test_checkup.py).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from ..storage.doctor import NAMED, Finding
from ..storage.errors import LocalStorageError, NewerFormat, ObjectDamaged, ObjectMissing, StenoError
from ..storage.home import Home
from ..storage.room import check_room
from ..storage.stamps import clock_ms, wall_clock
from ..storage.store import Store
from ..sync.files.reports import at_place
from ..sync.vault.inspection import keyless
from ..sync.vault.latency import latency
from ..sync.vault.membership import Membership, in_keyring, membership
from ..sync.vault.names import DEVICES, LOG, DeviceName, SegmentName
from ..sync.vault.remote import Remote, open_remote
from ..sync.vault.seal import UnknownKey
from ..sync.vault.segment import Sealer
from . import control
from .lock import holder_of
from .status import status_of

AHEAD_MS = 300_000
"""How far the newest stamp may be ahead of this machine's clock before that is said."""
_SEGMENTS = 3
_EPOCH_MS = 1_577_836_800_000
"""The year 2020: a clock before it was never set."""


def around(store: Store, home: Home) -> list[Finding]:
    """Look at what is on this machine besides the store."""
    daemon, status = _daemon(home)
    found = [daemon]
    with suppress(StenoError):  # of a damaged store, which the store's own checks tell of
        status = status_of(store, home) if status is None else status
        found += [_files(status), _sync(status), _clock(store)]
    return [*found, _disk(home), _access(home)]


async def far(home: Home) -> list[Finding]:
    """Look at the remote and at the key to what lies there; a home without a vault has neither."""
    try:
        found = membership(home)
    except StenoError as exc:
        return [_wrong("key", exc)]
    if found is None:
        return [Finding(name="remote", ok=True, what="this home has no remote, so nothing is sent anywhere")]
    try:
        remote = open_remote(found.url)
    except StenoError as exc:
        return [_wrong("remote", exc)]
    try:
        return await _on_remote(home, found, remote)
    finally:
        await remote.close()


async def _on_remote(home: Home, found: Membership, remote: Remote) -> list[Finding]:
    try:
        [took_ms] = await latency(remote, vault=found.vault, times=1)
        key = await _key(home, found, remote)
    except StenoError as exc:
        return [_wrong("remote", exc)]
    return [Finding(name="remote", ok=True, what=f"{found.url} answers in {took_ms:,.0f} ms"), key]


async def _key(home: Home, found: Membership, remote: Remote) -> Finding:
    """Whether the key of this home opens what devices say of themselves on the remote, or what they wrote."""
    lost = await keyless(remote)
    if lost:
        return Finding(name="key", ok=False, what=lost[0], count=1)
    sealer = Sealer(found.vault, lambda: found.keyring, os.urandom)
    unknown: UnknownKey | None = None
    records = [name for name in await remote.list(DEVICES) if DeviceName.parse(name) is not None]
    segments = [] if records else [name for name in await remote.list(LOG) if SegmentName.parse(name) is not None]
    for name in [*records, *segments[-_SEGMENTS:]]:
        try:
            sealer.content(await remote.get(name), name=name)
        except UnknownKey as exc:
            unknown = exc
        except (ObjectDamaged, ObjectMissing, NewerFormat):  # says nothing of the key; `steno verify` names it
            continue
        else:
            place = "the system's keyring" if in_keyring(home) else home.vault_file
            return Finding(name="key", ok=True, what=f"the vault's key, in {place}, opens what lies on the remote")
    if unknown is not None:
        return _wrong("key", unknown)
    return Finding(name="key", ok=True, what="there is nothing on the remote yet to try the vault's key on")


def _daemon(home: Home) -> tuple[Finding, dict[str, Any] | None]:
    """How the daemon does, and what it says of itself where it answers."""
    name, holder = "daemon", holder_of(home.daemon_lock)
    if holder is None:
        what = "no daemon runs, files and remote follow with `steno sync`; `steno daemon start` starts one"
        return Finding(name=name, ok=True, what=what), None
    client = control.running(home)
    with suppress(StenoError):
        if client is not None:
            status = client.status()
            return Finding(name=name, ok=True, what=f"process {client.running.pid} answers"), status
    what = f"{f'process {holder}' if holder else 'another process'} holds the daemon's lock and does not answer"
    advice = f"see {home.log_file}, then run `steno daemon stop` and `steno daemon start`"
    return Finding(name=name, ok=False, what=what, advice=advice, count=1), None


def _files(status: dict[str, Any]) -> Finding:
    files = status["files"]
    problems = [
        f"{at_place(each['path'], each['line'], each['column'])}: {each['reason']}" for each in files["refused"]
    ]
    if files["halted"]:
        problems.append(files["halted"]["reason"])
    elif files["stopped"]:
        problems.append(files["stopped"])
    waiting = f", {files['not_written']:,} changes are not written yet" if files["not_written"] else ""
    well = f"{files['files']:,} files in {files['directory']}{waiting}"
    return _listed("files", problems, well, "see `steno files status`")


def _sync(status: dict[str, Any]) -> Finding:
    """What the last syncs met."""
    vault = status["vault"] or {}
    problems = [
        vault.get("error"),
        *vault.get("problems", []),
        *(each["problem"] for each in vault.get("set_aside", [])),
    ]
    problems += [f"session {each} is incomplete: some of it has not arrived" for each in status["incomplete"]]
    waiting = vault.get("not_sent", 0) + vault.get("pending_segments", 0)
    well = (
        f"{waiting:,} changes wait to be sent"
        if waiting
        else "nothing waits to be sent"
        if vault
        else "nothing is sent"
    )
    return _listed(
        "sync", dict.fromkeys(each for each in problems if each), well, "see `steno status`, then run `steno sync`"
    )


def _clock(store: Store) -> Finding:
    name, now_ms = "clock", store.now_ms()
    if now_ms < _EPOCH_MS or not wall_clock(now_ms):
        return Finding(
            name=name, ok=False, what="the clock of this machine is not set", advice="set it, then go on", count=1
        )
    [newest] = store.one(
        "SELECT max(hlc, ifnull((SELECT clock FROM messages ORDER BY seq DESC LIMIT 1), 0)) FROM clock"
    )
    ahead_ms = clock_ms(newest) - now_ms
    if ahead_ms <= AHEAD_MS:
        return Finding(name=name, ok=True, what="no stamp is ahead of this machine's clock")
    what = f"the newest stamp is {ahead_ms / 60_000:,.0f} minutes ahead of this machine's clock; nothing is lost by it"
    return Finding(name=name, ok=True, what=what, advice="look at the clocks of this machine and of your other devices")


def _disk(home: Home) -> Finding:
    try:
        check_room(home.database, taking=0)
        free_bytes = shutil.disk_usage(home.data).free
    except LocalStorageError as exc:
        return _wrong("disk", exc)
    except OSError as exc:
        what = f"the disk of {home.data} does not say how full it is ({exc.strerror})"
        return Finding(name="disk", ok=True, what=what)
    return Finding(name="disk", ok=True, what=f"{free_bytes / 1e9:,.1f} GB are free in {home.data}")


def _access(home: Home) -> Finding:
    """Whether others on this machine may read what is private."""
    if os.name != "posix":
        return Finding(name="access", ok=True, what="the system's own rules say who may read this home")
    private = (home.data, home.database, home.config_file, home.vault_file, home.token_file, home.credentials_file)
    open_to_all = [path for path in private if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    # In a directory that only its owner may enter nobody meets what lies there.
    inside = home.data not in open_to_all
    bad = [path for path in open_to_all if not (inside and path.is_relative_to(home.data))]
    problems = [f"others on this machine may read {path}" for path in bad]
    advice = f"run `chmod go= {bad[0]}`" if bad else ""
    return _listed("access", problems, "only you may read this home", advice)


def _listed(name: str, problems: Iterable[str], well: str, advice: str) -> Finding:
    every = list(problems)
    if not every:
        return Finding(name=name, ok=True, what=well)
    more = f"; and {len(every) - NAMED:,} more" if len(every) > NAMED else ""
    return Finding(name=name, ok=False, what="; ".join(every[:NAMED]) + more, advice=advice, count=len(every))


def _wrong(name: str, exc: StenoError) -> Finding:
    return Finding(name=name, ok=False, what=str(exc), advice=exc.hint, count=1)
