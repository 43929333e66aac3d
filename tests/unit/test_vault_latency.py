"""How soon a remote answers, and what it says instead."""

from __future__ import annotations

import itertools

import pytest

from steno.storage.errors import NoVault, OtherVault
from steno.sync.vault.latency import latency
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import VAULT
from steno.sync.vault.vault import vault_json


@pytest.fixture
def remote() -> MemoryRemote:
    made = MemoryRemote()
    made.objects[VAULT] = vault_json("vaultvault00")
    return made


async def test_every_answer_is_timed_and_nothing_is_written(remote: MemoryRemote) -> None:
    clock = itertools.accumulate([10.0, 0.5, 1.0, 0.25]).__next__
    assert await latency(remote, vault="vaultvault00", times=2, clock=clock) == [500.0, 250.0]
    assert dict(remote.requests) == {"get": 2}


async def test_a_place_without_a_vault_is_no_answer(remote: MemoryRemote) -> None:
    remote.objects.clear()
    with pytest.raises(NoVault):
        await latency(remote, vault="vaultvault00", times=3)


async def test_another_vault_is_named(remote: MemoryRemote) -> None:
    with pytest.raises(OtherVault, match="vaultvault00"):
        await latency(remote, vault="vaultvault11", times=3)
