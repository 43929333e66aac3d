"""The verbs about what lies on the remote and who writes there: devices, verify, repair."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import msgspec

from ..daemon import control
from ..storage.errors import Incomplete, NoVault, OtherVault, RemoteRefused, RemoteUnreachable
from ..storage.home import Home
from ..storage.store import Store
from ..sync.vault.devices import Device
from ..sync.vault.devices import devices as devices_of
from ..sync.vault.engine import VaultEngine
from ..sync.vault.inspection import KEYLESS, Findings
from ..sync.vault.ledger import Ledger
from ..sync.vault.membership import required_membership
from ..sync.vault.names import LOG
from .options import examples, format_option
from .syncing import alone
from .terminal import counted, local_time, note, print_json, safe_line

_ANSWER_WITHIN_S = 20.0
_T = TypeVar("_T")


@click.group(invoke_without_command=True, epilog=examples("steno devices", "steno devices retire k3v9x0a1b2c4"))
@click.pass_context
@format_option
def devices(context: click.Context, *, as_json: bool) -> None:
    """List the devices of the vault: who they are, when they last said so, and what they had not read then.

    Each says so once a day at most. Where the remote cannot be reached, those are listed that are known here.
    """
    if context.invoked_subcommand is not None:
        return
    known = _known(_home())
    if as_json:
        print_json(msgspec.to_builtins(known))
        return
    for each in known:
        click.echo(_line(each))


@devices.command(epilog=examples("steno devices retire k3v9x0a1b2c4 --yes"))
@click.argument("device", metavar="ID")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, also on a terminal.")
@format_option
def retire(*, device: str, yes: bool, as_json: bool) -> None:
    """Take over what a device wrote that never comes back, so that its objects go from the remote.

    Nothing that it sent is lost. Should it come back after all, it goes on as before, and what it wrote meanwhile is
    taken in. That shuts nobody out: `steno vault rotate --revoke` does.
    """
    home = _home()
    if not yes and sys.stdin.isatty():
        click.confirm(f"Does device {safe_line(device)} never come back?", abort=True, err=True)
    _told(_with_engine(home, lambda client: client.retire(device), lambda engine: engine.retire(device)))
    if as_json:
        print_json({"retired": device})
        return
    click.echo(f"Device {device} is retired; what it wrote is kept by this device.")
    click.echo("If it was lost or stolen, shut it out: `steno vault rotate --revoke`.")


@click.command(epilog=examples("steno verify"))
@format_option
def verify(*, as_json: bool) -> None:
    """Read the whole remote and say what does not open or is gone. Nothing is written; `steno repair` mends."""
    home = _home()
    findings = asyncio.run(_alone(home, lambda engine: engine.inspect(_progress), exclusive=False))
    if as_json:
        print_json(msgspec.to_builtins(findings))
    else:
        _print_findings(findings)
    if wrong := len(findings.damaged) + len(findings.missing) + len(findings.revoked):
        lost = findings.damaged or findings.missing not in ([], [KEYLESS])
        hint = "`steno repair` sends again what this device holds of it" if lost else "the lines above say what to do"
        raise Incomplete(count=wrong, hint=hint)


@click.command(epilog=examples("steno repair"))
@format_option
def repair(*, as_json: bool) -> None:
    """Send again what the remote lost, or does not give back as it was put there, as far as this device holds it."""
    home = _home()
    report = _with_engine(home, lambda client: client.repair(), lambda engine: engine.repair(_progress))
    if as_json:
        print_json(report)
    else:
        healed = report["healed_segments"]
        lost = f"Sent again what {counted(healed, 'lost object')} held."
        click.echo(lost if healed else "Nothing that this device holds is lost.")
    _told(report, quiet=as_json)


def _home() -> Home:
    home = Home.from_environment()
    home.require()
    return home


def _known(home: Home) -> list[Device]:
    """The devices of the vault: as they are now, if the remote answers."""

    async def heard(engine: VaultEngine) -> list[Device]:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            return await engine.devices(hear=True)

    try:
        return asyncio.run(_alone(home, heard, exclusive=False))
    except (RemoteUnreachable, RemoteRefused, NoVault, OtherVault) as exc:
        why = exc.line
    except TimeoutError:
        why = "the remote did not answer in time"
    note(f"{why}; these are the devices that were known here")
    with Store(home.database) as store:
        return devices_of(Ledger(store, required_membership(home).vault))


def _with_engine(
    home: Home, asked: Callable[[Any], dict[str, Any]], call: Callable[[VaultEngine], Awaitable[Any]]
) -> dict[str, Any]:
    """Have the daemon do something with the vault, or do it here where none runs."""
    client = control.running(home)
    return asked(client) if client is not None else msgspec.to_builtins(asyncio.run(_alone(home, call)))


async def _alone(home: Home, call: Callable[[VaultEngine], Awaitable[_T]], *, exclusive: bool = True) -> _T:
    async with alone(home, exclusive=exclusive) as (_, engine):
        return await call(engine)


def _told(report: dict[str, Any], *, quiet: bool = False) -> None:
    """Say what is not well, on stderr and in the exit code."""
    if not quiet:
        for each in [*report["notes"], *report["rescued"], *report["problems"]]:
            note(each)
    if report["problems"] or report["pending_segments"]:
        raise Incomplete(count=len(report["problems"]) + report["pending_segments"])


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        click.echo(f"\rread {done:,} of {total:,} objects{end}", nl=False, err=True)


def _print_findings(found: Findings) -> None:
    good = found.segments - sum(name.startswith(LOG) for name in found.damaged)
    click.echo(f"{good:,} of {counted(found.segments, 'object')} open ({counted(found.size_bytes, 'byte')}).")
    for problem in [*found.damaged.values(), *found.missing, *found.revoked.values()]:
        note(problem)


def _line(device: Device) -> str:
    who = "this device" if device.this else "retired" if device.retired else ""
    name = safe_line(device.name or "(it did not say who it is)")
    seen = f"seen {local_time(device.seen_at)}" if device.seen_at else ""
    behind = f"had not read {device.behind:,} of ours then" if device.behind and not device.retired else ""
    aside = f"{device.set_aside:,} set aside: it came under a revoked key" if device.set_aside else ""
    return "  ".join(part for part in (device.id, name, device.platform or "", seen, behind, aside, who) if part)
