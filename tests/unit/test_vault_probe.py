"""What is found out about a service, on services that lack something."""

from __future__ import annotations

import itertools
import os

import pytest

from steno.storage.errors import ObjectMissing, RemoteRefused
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import MAX_OBJECT_BYTES
from steno.sync.vault.probe import remarks_on


class Lagging(MemoryRemote):
    async def list(self, prefix: str) -> list[str]:  # noqa: ARG002  as in `Remote`
        return []

    async def get(self, name: str, *, limit_bytes: int = MAX_OBJECT_BYTES) -> bytes:  # noqa: ARG002  as above
        raise ObjectMissing(name=name)


class Keeping(MemoryRemote):
    async def delete(self, name: str) -> None:  # noqa: ARG002  as above
        raise RemoteRefused(remote=self.address, reason="objects are locked")


class Full(MemoryRemote):
    async def put(self, name: str, data: bytes) -> None:  # noqa: ARG002  as above
        raise RemoteRefused(remote=self.address, reason="no room")


async def test_a_service_that_does_all_gets_no_remark_and_keeps_nothing():
    remote = MemoryRemote()
    assert await remarks_on(remote, draw=os.urandom) == []
    assert remote.objects == {}


async def test_a_service_that_lags_is_said_to():
    listing, reading = await remarks_on(Lagging(), draw=os.urandom)
    assert "listings lag" in listing
    assert "at once" in reading


async def test_a_service_that_deletes_nothing_is_said_to():
    (remark,) = await remarks_on(Keeping(), draw=os.urandom)
    assert "objects are locked" in remark


async def test_a_service_that_is_slow_is_said_to_be():
    clock = itertools.count(0.0, 12.0)
    (remark,) = await remarks_on(MemoryRemote(), draw=os.urandom, clock=lambda: next(clock))
    assert "3.0 s for a request" in remark


async def test_a_service_that_takes_nothing_is_no_remark_but_an_error():
    with pytest.raises(RemoteRefused):
        await remarks_on(Full(), draw=os.urandom)
