"""Devices with the real engine over a remote in memory that fails when it is told to."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steno.storage.errors import RemoteUnreachable, StenoError
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import LOG, VAULT
from steno.sync.vault.report import SyncReport
from steno.sync.vault.seal import Keyring, VaultKey
from steno.sync.vault.vault import vault_json

NOW_MS = 1_800_000_000_000


class Flaky(MemoryRemote):
    """A remote that fails when it is told to: before a request is done, or after a PUT that nobody hears of."""

    def __init__(self, peer_of: MemoryRemote) -> None:
        super().__init__(peer_of=peer_of)
        self.fails: Callable[[str, str], StenoError | None] = lambda *_: None
        self.loses_acknowledgement = False

    async def put(self, name: str, data: bytes) -> None:
        self._fail("put", name)
        await super().put(name, data)
        if self.loses_acknowledgement:
            self.loses_acknowledgement = False
            raise RemoteUnreachable(remote="memory", reason="timed out")

    async def get(self, name: str, **options: Any) -> bytes:
        self._fail("get", name)
        return await super().get(name, **options)

    async def list(self, prefix: str) -> list[str]:
        self._fail("list", prefix)
        return await super().list(prefix)

    def _fail(self, verb: str, name: str) -> None:
        error = self.fails(verb, name)
        if error is not None:
            self.requests[verb] += 1
            raise error


class Device:
    """A store and its engine; a second engine on it is the same device started again."""

    def __init__(self, folder: Path, name: str, vault: Vault) -> None:
        self.vault = vault
        self.store = Store(folder / f"{name}.db", now_ms=vault.now)
        self.remote = Flaky(vault.remote)
        self.restart()

    def restart(self) -> None:
        self.engine = VaultEngine(
            self.store,
            self.remote,
            vault=self.vault.id,
            keyring=self.vault.keyring,
            now_ms=self.vault.now,
            draw=self.vault.draw,
        )

    async def sync(self) -> SyncReport:
        return await self.engine.sync()

    def session(self, *contents: str, **fields: Any) -> str:
        session = self.store.create(**fields).id
        for each in contents:
            self.add(session, each)
        return session

    def add(self, session: str, content: str) -> None:
        self.store.append(session, NewMessage(role="user", content=content))

    def contents(self, session: str) -> list[Any]:
        return [message.content for message in self.store.messages(session)]

    def everything(self) -> dict[str, Any]:
        return {each.id: (each, list(self.store.messages(each.id))) for each in list(self.store.sessions())}

    def asked(self) -> dict[str, int]:
        """What was asked of the remote since this was asked last."""
        asked = dict(self.remote.requests)
        self.remote.requests.clear()
        return asked


class Vault:
    """A vault on a remote in memory, and a clock that all its devices share."""

    def __init__(self, id: str, keyring: Keyring, remote: MemoryRemote, folder: Path) -> None:
        self.id, self.keyring, self.remote, self.folder = id, keyring, remote, folder
        self.clock_ms = NOW_MS
        self.draw = random.Random(1).randbytes
        self.devices: list[Device] = []

    def now(self) -> int:
        self.clock_ms += 1
        return self.clock_ms

    def device(self, name: str) -> Device:
        made = Device(self.folder, name, self)
        self.devices.append(made)
        return made

    def log(self) -> list[str]:
        return sorted(name for name in self.remote.objects if name.startswith(LOG))


@contextmanager
def vault_in_memory(folder: Path) -> Generator[Vault]:
    """A vault that nobody used yet; the stores of its devices lie in a folder, and are closed with it."""
    folder.mkdir(exist_ok=True)
    remote = MemoryRemote()
    remote.objects[VAULT] = vault_json("vaultvault00")
    made = Vault("vaultvault00", Keyring((VaultKey("keykeykeyk00", b"k" * 32),)), remote, folder)
    yield made
    for device in made.devices:
        device.store.close()
