"""A vault with two devices, in memory, for whoever tests the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import VAULT
from steno.sync.vault.seal import Keyring, VaultKey
from steno.sync.vault.vault import vault_json
from steno.tests.unit.vaults import Device, Vault


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    remote = MemoryRemote()
    remote.objects[VAULT] = vault_json("vaultvault00")
    made = Vault("vaultvault00", Keyring((VaultKey("keykeykeyk00", b"k" * 32),)), remote, tmp_path)
    yield made
    for device in made.devices:
        device.store.close()


@pytest.fixture
def laptop(vault: Vault) -> Device:
    return vault.device("laptop")


@pytest.fixture
def desktop(vault: Vault) -> Device:
    return vault.device("desktop")
