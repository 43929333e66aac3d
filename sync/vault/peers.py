"""What the devices of a vault say of themselves: a sealed record each, written anew at most daily.

    devices/<device>.<n>   sealed JSON: {"steno_device":1,"name":…,"platform":…,"version":…,"written_ms":…,
                           "applied":{device:[[first,last],…]},"retired":{device:last},"holds_purged":true}

``holds_purged`` is there while something that was purged stands in its own log. Who has taken out what others purged
says so at once, and who purged looks for that sooner than once a day (tests/unit/test_vault_purges.py).
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
from .own_log import OwnLog
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

SELDOM_MS = 60 * 60_000
"""How often a device is looked for, at least, that has not taken out what was purged."""

MOST_SHOWN = 5
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
    holds_purged: Literal[True] | msgspec.UnsetType = msgspec.UNSET

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


def unscrubbed(ledger: Ledger) -> list[str]:
    """The devices in whose logs something may still stand that was purged here, as far as they said."""
    log, cursor = OwnLog(ledger), ledger.cursor()
    told = log.told
    if not told:
        return []
    records = known(ledger)
    retired = {each for record in records.values() for each in record.retired.items()}
    others = cursor.devices.keys() - {ledger.store.device, *ledger.store.former_devices}
    others -= {device for device, last in retired if cursor.of(device).last <= last}  # else it came back

    def is_clean(record: DeviceRecord | None) -> bool:
        has = record.applied.get(ledger.store.device, []) if record else []
        return record is not None and not record.holds_purged and Ranges.of(*has).covers(told, told)

    return sorted(each for each in others if not is_clean(records.get(each)))


def said_of_unscrubbed(ledger: Ledger) -> list[str]:
    """The line on the devices of `unscrubbed`, where there are any."""
    found = unscrubbed(ledger)
    if not found:
        return []
    records = known(ledger)
    shown = [f"{each} ({records[each].name})" if each in records else each for each in found[:MOST_SHOWN]]
    named = ", ".join(shown) + (f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else "")
    what = f"what was purged may still stand in what {named} sent: it goes with the next sync there"
    return [f"{what}; where a device never comes back, `steno devices retire ID` removes it"]


class Peers:
    """Writes the record of this device and reads those of the others."""

    def __init__(
        self, store: Store, ledger: Ledger, remote: Remote, sealer: Sealer,
        *, now_ms: Callable[[], int], work: Work,
    ) -> None:  # fmt: skip
        self._store, self._ledger, self._remote, self._sealer = store, ledger, remote, sealer
        self._now_ms, self._work = now_ms, work
        self._log = OwnLog(ledger)
        self._looks: Counter[str] = Counter()
        self._looked_ms: int | None = None

    async def tend(self) -> bool:
        """Read what others say and say what is to be said, where that was last done a day ago; whether it was done.

        That what others purged is taken out is said at once. A device that is new, and one that has not said this, is
        looked for sooner. Raises as remotes do.
        """
        own = (await self._work(self.known)).get(self._store.device)
        is_recent = own is not None and 0 <= self._now_ms() - own.written_ms < EVERY_MS
        if own is not None and is_recent and not await self._work(lambda: self._owes_word(own)):
            await self._look_for(await self._work(self._strangers), await self._work(lambda: unscrubbed(self._ledger)))
            return False
        await self.exchange()
        return True

    def _strangers(self) -> list[str]:
        """Devices that published and of which no record was read."""
        return sorted(self._ledger.cursor().devices - self._numbers().keys())

    def _owes_word(self, own: DeviceRecord) -> bool:
        """Say whether the others do not know yet that what they purged is taken out here."""
        return bool(self._ledger.has_met_purge or own.holds_purged) and self._log.is_clean

    async def _look_for(self, strangers: list[str], unscrubbed: list[str]) -> None:
        """Read what new devices say of themselves: they write it when what they have to send is sent.

        Those that have not taken out what was purged are looked for ever more seldom, since they may be away for long.
        """
        for each in self._looks.keys() - {*strangers, *unscrubbed}:
            del self._looks[each]
        now_ms = self._now_ms()
        since_ms = SELDOM_MS if self._looked_ms is None else abs(now_ms - self._looked_ms)
        sought = [each for each in strangers if self._looks[each] < STRANGER_LOOKS]
        sought += [each for each in unscrubbed if since_ms >= _patience_ms(self._looks[each])]
        if not sought or since_ms < STRANGER_MS:
            return
        self._looked_ms = now_ms
        self._looks.update(sought)
        await self.hear()

    async def hear(self) -> None:
        """Read what others say of themselves now."""
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
        await self._work(lambda: self._said(own, content))
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
            holds_purged=msgspec.UNSET if self._log.is_clean else True,
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

    def _said(self, name: DeviceName, content: bytes) -> None:
        self._keep(name, content)
        if not msgspec.json.decode(content, type=DeviceRecord).holds_purged:
            self._ledger.purge_said()

    def _keep(self, name: DeviceName, content: bytes) -> None:
        self._ledger.keep_peer(name.device, name.n, content)


def _patience_ms(looks: int) -> int:
    return min(STRANGER_MS << min(looks, SELDOM_MS.bit_length()), SELDOM_MS)


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
