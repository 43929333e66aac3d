"""A remote in a dictionary: for tests, for simulations, and to try things out.

Devices share one by making a `peer` each: the objects are common, the counts are their own.
It passes the same contract as the folder (tests/contract/test_remotes.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from ...storage.errors import ObjectDamaged, ObjectMissing
from .names import MAX_OBJECT_BYTES, check_name


class MemoryRemote:
    """A `Remote` whose objects are ``objects``; whoever reads or breaks them there is the remote's owner."""

    folder: Path | None = None

    def __init__(self, *, address: str = "memory", peer_of: MemoryRemote | None = None) -> None:
        self.address = address
        self.objects: dict[str, bytes] = peer_of.objects if peer_of else {}
        self.requests: Counter[str] = Counter()
        self.listeners: set[asyncio.Event] = peer_of.listeners if peer_of else set()

    def peer(self) -> MemoryRemote:
        """Another device's way to the same objects."""
        return MemoryRemote(address=self.address, peer_of=self)

    async def put(self, name: str, data: bytes) -> None:
        """Store an object."""
        await self._asked("put")
        self.objects[check_name(name)] = bytes(data)
        for listener in self.listeners:
            listener.set()

    async def get(self, name: str, *, limit_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The object; raise `ObjectMissing`, or `ObjectDamaged` if it is larger than ``limit_bytes``."""
        await self._asked("get")
        data = self.objects.get(check_name(name))
        if data is None:
            raise ObjectMissing(name=name)
        if len(data) > limit_bytes:
            raise ObjectDamaged(name=name, reason=f"larger than {limit_bytes} bytes")
        return data

    async def list(self, prefix: str) -> list[str]:
        """The names in one directory, sorted."""
        await self._asked("list")
        return sorted(name for name in self.objects if name.startswith(prefix) and "/" not in name[len(prefix) :])

    async def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        await self._asked("delete")
        self.objects.pop(check_name(name), None)

    async def news(self, *, timeout_s: float) -> bool:
        """Wait until a peer, or this one, puts something."""
        listener = asyncio.Event()
        self.listeners.add(listener)
        try:
            async with asyncio.timeout(timeout_s):
                return await listener.wait()
        except TimeoutError:
            return False
        finally:
            self.listeners.discard(listener)

    async def close(self) -> None:
        """Nothing is held."""

    async def _asked(self, verb: str) -> None:
        self.requests[verb] += 1
        # Every request lets the others run, as a real one does.
        await asyncio.sleep(0)
