"""A vault with two devices, in memory, for whoever tests the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.tests.unit.vaults import Device, Vault, vault_in_memory


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with vault_in_memory(tmp_path) as made:
        yield made


@pytest.fixture
def laptop(vault: Vault) -> Device:
    return vault.device("laptop")


@pytest.fixture
def desktop(vault: Vault) -> Device:
    return vault.device("desktop")
