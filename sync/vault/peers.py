"""What the devices of a vault say of themselves: a sealed record each, written anew at most daily.

    devices/<device>.<n>   sealed JSON: {"steno_device":1,"name":…,"platform":…,"version":…,"written_ms":…,
                           "applied":{device:[[first,last],…]},"retired":{device:last}}

A later version may add ``"needs":n``: whoever writes segments of a version below n sends nothing more, and says so.

The record with the greatest n of a device counts; it removes its own older ones when the new one is there. Nothing
that is merged depends on a record: they tell people who is there, and whose log was adopted by somebody else
(tests/unit/test_vault_peers.py).
"""

from __future__ import annotations

import logging
import platform
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from ... import __version__
from ...storage.errors import InvalidInput, NewerFormat, ObjectDamaged, ObjectMissing
from ...storage.steps import step
from ...storage.store import Store
from .ledger import Ledger
from .names import DEVICES, MAX_NUMBER, DeviceName
from .ranges import Range, Ranges
from .remote import Remote
from .seal import UnknownKey, sealed_with
from .segment import Sealer
from .work import Work

FORMAT = 1
EVERY_MS = 24 * 60 * 60_000
STRANGER_MS = 60_000
STRANGER_LOOKS = 3
"""How often a device that published and has not said who it is is looked for, besides once a day."""

MAX_RECORD_BYTES = 1 << 20
MOST = 1000
"""So many devices are heard; a remote may list more."""

_Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
_Text = Annotated[str, msgspec.Meta(max_length=200)]
_Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-z]{12}$", max_length=12)]
_log = logging.getLogger("steno.vault")


class DeviceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``applied`` names the publications that the device has of each log, ``retired`` the logs that it has adopted."""

    steno_device: Literal[1] = FORMAT
    name: _Text
    platform: _Text
    version: _Text
    written_ms: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    applied: dict[_Id, list[Range]] = {}
    retired: dict[_Id, _Number] = {}

    def claiming_nothing(self) -> DeviceRecord:
        """Who the device says it is, and nothing else that it says."""
        return msgspec.structs.replace(self, applied={}, retired={})


class _Format(msgspec.Struct, frozen=True):
    steno_device: int


class _Needs(msgspec.Struct, frozen=True):
    """What no version writes yet, and every version heeds."""

    needs: _Number = 0


def known(ledger: Ledger) -> dict[str, DeviceRecord]:
    """The records that were last read, this device's own among them."""
    return {device: msgspec.json.decode(record, type=DeviceRecord) for device, _, record in ledger.peers()}


def claimed(ledger: Ledger) -> dict[str, Ranges]:
    """The publications of each log that the devices have, together."""
    found: dict[str, Ranges] = {}
    for record in known(ledger).values():
        for device, spans in record.applied.items():
            found[device] = found.get(device, Ranges()) | Ranges.of(*spans)
    return found


class Peers:
    """Writes the record of this device and reads those of the others."""

    def __init__(
        self, store: Store, ledger: Ledger, remote: Remote, sealer: Sealer,
        *, now_ms: Callable[[], int], work: Work,
    ) -> None:  # fmt: skip
        self._store, self._ledger, self._remote, self._sealer = store, ledger, remote, sealer
        self._now_ms, self._work = now_ms, work
        self._looks: Counter[str] = Counter()
        self._looked_ms: int | None = None

    async def tend(self) -> bool:
        """Read what others say and say what is to be said, where that was last done a day ago; whether it was done.

        A device that is new is looked for sooner. Raises as remotes do.
        """
        own = (await self._work(self.known)).get(self._store.device)
        if own is not None and 0 <= self._now_ms() - own.written_ms < EVERY_MS:
            await self._look_for(await self._work(self._strangers))
            return False
        await self.exchange()
        return True

    def _strangers(self) -> list[str]:
        """Devices that published and of which no record was read."""
        return sorted(self._ledger.cursor().devices - self._numbers().keys())

    async def _look_for(self, strangers: list[str]) -> None:
        """Read what new devices say of themselves: they write it when what they have to send is sent."""
        sought = [each for each in strangers if self._looks[each] < STRANGER_LOOKS]
        now_ms = self._now_ms()
        is_soon = self._looked_ms is not None and abs(now_ms - self._looked_ms) < STRANGER_MS
        if not sought or is_soon:
            return
        self._looked_ms = now_ms
        self._looks.update(sought)
        await self._hear(await self._remote.list(DEVICES))

    async def exchange(self, *, retire: dict[str, int] | None = None) -> None:
        """Read what others say, and write the record of this device anew; ``retire`` are adopted logs to name in it."""
        listing = await self._remote.list(DEVICES)
        await self._hear(listing)
        known, device = await self._work(self._numbers), self._store.device
        before = [each for each in map(DeviceName.parse, listing) if each is not None and each.device == device]
        # A remote may list the last number there is under our id.
        numbers = [n for n in (known.get(device, 0), *(each.n for each in before)) if n < MAX_NUMBER]
        own = DeviceName(device, max(numbers, default=0) + 1)
        content = await self._work(lambda: self._record(retire or {}))
        await self._remote.put(own.path, self._sealer.close(content, name=own.path))
        step("device.put")
        await self._work(lambda: self._keep(own, content))
        for each in before[:MOST]:
            if each != own:
                await self._remote.delete(each.path)

    def known(self) -> dict[str, DeviceRecord]:
        """The records that were last read, this device's own among them."""
        return known(self._ledger)

    def needed(self) -> int:
        """The least version of segments that somebody asks everybody for, who writes."""
        return max((msgspec.json.decode(record, type=_Needs).needs for *_, record in self._ledger.peers()), default=0)

    def claimed(self) -> dict[str, Ranges]:
        """The publications of each log that the other devices have, together."""
        return claimed(self._ledger)

    def _numbers(self) -> dict[str, int]:
        return {device: n for device, n, _ in self._ledger.peers()}

    def _record(self, retire: dict[str, int]) -> bytes:
        before = self.known().get(self._store.device)
        record = DeviceRecord(
            name=platform.node()[:200] or "unnamed",
            platform=platform.system()[:200].lower() or "unknown",
            version=__version__,
            written_ms=max(self._now_ms(), 0),
            applied={device: list(self._ledger.cursor().of(device).spans) for device in self._ledger.cursor().devices},
            retired={**(before.retired if before else {}), **retire},
        )
        return msgspec.json.encode(record)

    async def _hear(self, listing: list[str]) -> None:
        """Read the records of others that are newer than those that were read last."""
        known = await self._work(self._numbers)
        for device, name in _newest(listing).items():
            if device != self._store.device and name.n > known.get(device, 0):
                await self._read(name)

    async def _read(self, name: DeviceName) -> None:
        try:
            sealed = await self._remote.get(name.path, limit_bytes=MAX_RECORD_BYTES)
            content = await self._work(lambda: self._sealer.content(sealed, name=name.path))
            record = _parsed(content, name=name.path)
            key = self._sealer.keyring.find(sealed_with(sealed, name=name.path))
            if key is not None and key.until is not None:  # it may be of who was shut out
                content = msgspec.json.encode(record.claiming_nothing())
        except (ObjectMissing, ObjectDamaged, NewerFormat, UnknownKey) as exc:
            _log.info("%s", exc.line)
            return
        await self._work(lambda: self._keep(name, content))

    def _keep(self, name: DeviceName, content: bytes) -> None:
        self._ledger.keep_peer(name.device, name.n, content)


def _parsed(content: bytes, *, name: str) -> DeviceRecord:
    """The record in an object; raise `ObjectDamaged` or `NewerFormat`."""
    try:
        if msgspec.json.decode(content, type=_Format).steno_device > FORMAT:
            raise NewerFormat(name=name)
        msgspec.json.decode(content, type=_Needs)
        record = msgspec.json.decode(content, type=DeviceRecord)
        for spans in record.applied.values():
            Ranges.of(*spans)
        return record
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidInput) as exc:
        raise ObjectDamaged(name=name, reason="it is no device record") from exc


def _newest(listing: list[str]) -> dict[str, DeviceName]:
    found: dict[str, DeviceName] = {}
    for name in map(DeviceName.parse, listing):
        if name is not None and (name.device in found or len(found) < MOST):
            found[name.device] = max(name, found.get(name.device, name))
    return found
