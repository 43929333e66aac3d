"""``steno ping``: whether the remote answers, and how soon."""

from __future__ import annotations

import asyncio

import click

from ..storage.home import Home
from ..sync.vault.latency import latency
from ..sync.vault.membership import Membership, required_membership
from ..sync.vault.remote import open_remote
from .options import examples, format_option
from .terminal import print_json, safe_line

TIMES = 3


@click.command(
    short_help="Ask the remote, and say how soon it answers.",
    epilog=examples("steno ping", "steno ping --json | jq .latency_ms"),
)
@format_option
def ping(*, as_json: bool) -> None:
    """Ask the remote for this home's vault, and say how soon it answers; nothing is written.

    Where it does not answer, refuses, or holds another vault, the reason is told; the exit code is 6 where it cannot be
    reached.
    """
    home = Home.from_environment()
    home.require()
    found = required_membership(home)
    took_ms = asyncio.run(_asked(found))
    if as_json:
        print_json({"remote": found.url, "vault": found.vault, "latency_ms": min(took_ms), "took_ms": took_ms})
        return
    click.echo(safe_line(f"{found.url} answers in {_said(min(took_ms))} (vault {found.vault})"))
    click.echo(f"Asked {len(took_ms)} times: {', '.join(map(_said, took_ms))}")


async def _asked(found: Membership) -> list[float]:
    remote = open_remote(found.url)
    try:
        return await latency(remote, vault=found.vault, times=TIMES)
    finally:
        await remote.close()


def _said(ms: float) -> str:
    return f"{ms:.1f} ms" if ms < 100 else f"{ms:,.0f} ms"
