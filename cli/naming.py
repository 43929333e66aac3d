"""What devices are called, for people: by the name that they gave themselves, else by their id."""

from __future__ import annotations

import msgspec

from ..storage.store import Store
from .terminal import safe_line

THIS = "this device"


class _Named(msgspec.Struct, frozen=True):
    name: str


def device_names(store: Store) -> dict[str, str]:
    """The names of the devices that are known here, by id; none that could be taken for another's."""
    named: dict[str, list[str]] = {}
    for device, record in store.execute("SELECT device, record FROM peers").fetchall():
        try:
            named.setdefault(msgspec.json.decode(record, type=_Named).name, []).append(device)
        except msgspec.MsgspecError:
            continue
    alone = {devices[0]: name for name, devices in named.items() if name and len(set(devices)) == 1}
    return {**alone, **dict.fromkeys(store.former_devices, THIS), store.device: THIS}


def said(device: str, names: dict[str, str]) -> str:
    """A device as it is shown."""
    return safe_line(names.get(device) or f"device {device}")
