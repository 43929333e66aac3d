"""People at the files of a device: the real mirror over real files, and saves of what may be older than what they hit.

A save is taken up when the mirror works the next time, whatever comes before that. Who saved knew what the file showed
when it was opened: only that is theirs to replace, or to delete. A file that may bring back what was purged is refused,
and removed then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steno.storage.rows import HIDDEN_FOR_EVER, header, message
from steno.sync.files.lines import Rev, header_of, line_of, parse_rev, render
from steno.sync.files.mirror import Mirror
from steno.sync.files.power import Machine
from steno.tests.simulation.deeds import MARK, Field, Look, edit_text, open_texts
from steno.tests.simulation.vault_world import RUNNING, Buffer, Crash, Device, Save

Lines = list[dict[str, Any]]
"""What a file says, the header first."""

_SETTLED_NS = 1 << 62
_MOST_WRITINGS = 100
_OURS = ".steno-"


# The mirror


def take_up(device: Device) -> None:
    """Let the mirror take what was saved and write what changed. Killed, it is started again and does it then."""
    saved, device.saved = device.saved, None
    if saved is None:
        _work(device)
    else:
        _taken(device, saved)
    for path in _refused(device):
        assert device.shows is not None
        knew = device.shows if saved is None else _both(device.shows, saved.knew)
        path.unlink()
        _taken(device, Save(next(device.world.deeds.numbers), "", path, knew, None))
    device.shows = device.world.deeds.look(device.store)


def _taken(device: Device, saved: Save) -> None:
    deeds, before = device.world.deeds, device.world.deeds.look(device.store)
    _work(device, saved.path)
    edits = saved.edits if _stands(device, saved) else None
    deeds.done(saved.action, device.store, before=before, knew=saved.knew, edits=edits)
    device.acts.add(saved.action)
    made = {place for place in deeds.acts[saved.action].written if place[0] == saved.session}
    assert len(made) < 2 or device.world.is_copied, f"a save of {saved.path.name} made {len(made)} messages"
    if device.buffer is not None and saved.path in _refused(device):
        device.buffer = None
    elif device.buffer is not None and device.buffer.path == saved.path:
        own = Look(made, made, {edit_text(saved.action)} if edits else set())
        device.buffer = device.buffer._replace(knew=_both(device.buffer.knew, own))


def _stands(device: Device, saved: Save) -> bool:
    """Whether a field holds what was saved into it; else it is a new message, or of a copy, or the old one is purged.

    A mirror that was killed knows no more that it gave a file another name: what is saved under the former is a copy.
    """
    if saved.edits is None or saved.path in _refused(device):
        return False
    text, (session, id_, _) = edit_text(saved.action), saved.edits
    stands = open_texts(device.store, saved.edits)
    if text in stands:
        beside = stands & saved.knew.standing
        assert not beside or device.world.is_copied, f"{text} was saved over {beside}, which stands beside it"
        return True
    row = device.store.row(session)
    assert row is not None
    rows = device.store.message_rows(row.no, hidden=True)
    # Of a title nobody knows whether the message had made it that is purged.
    is_purged = any(each.hidden & HIDDEN_FOR_EVER for each in rows if id_ in (None, each.id))
    everywhere = [
        (each.title, *(said.content for said in device.store.messages(each.id))) for each in device.store.sessions()
    ]
    assert is_purged or any(text in said for said in everywhere), f"{text} was saved on {device.name} and not taken"
    return False


def _work(device: Device, *paths: Path) -> None:
    RUNNING.set(device)
    while True:
        try:
            mirror = _mirror(device)
            mirror.vanished(mirror.saved(paths))
            _write_all(device, mirror)
        except Crash:
            device.restart()
        else:
            return


def _mirror(device: Device) -> Mirror:
    if device.mirror is None:
        mirror = Mirror(
            device.store, device.files,
            monotonic=lambda: device.seconds, wall_ns=lambda: _SETTLED_NS, sleep=device.sleep,
            machine=lambda: Machine("this start", 0),
        )  # fmt: skip
        mirror.start()
        device.mirror = mirror
    return device.mirror


def _write_all(device: Device, mirror: Mirror) -> None:
    for _ in range(_MOST_WRITINGS):
        wait_s = mirror.write_pending()
        if wait_s is None:
            return
        device.seconds += wait_s
    raise AssertionError(f"the files of {device.name} are never written")


def _refused(device: Device) -> list[Path]:
    """The files that are left alone: those that may bring back what was purged, and no other."""
    refused = _mirror(device).refused()
    for each in refused:
        assert "purged" in each.reason, f"{each.path} of {device.name} is refused: {each.reason}"
    return [device.files / each.path for each in refused]


def _both(one: Look, other: Look) -> Look:
    return Look(one.here | other.here, one.shown | other.shown, one.standing | other.standing)


def _files(device: Device) -> list[Path]:
    return sorted(path for path in device.files.rglob("*.jsonl") if not path.name.startswith("."))


# People


def open_file(device: Device, number: int) -> None:
    """Open a file in an editor, to be saved later."""
    take_up(device)
    device.buffer = _read(device, number)


def _read(device: Device, number: int) -> Buffer | None:
    said = {path: tuple(path.read_text(encoding="utf-8").splitlines()) for path in _files(device)}
    files = [path for path, lines in said.items() if not json.loads(lines[0]).get("local_only")]
    if not files or device.shows is None:
        return None
    path = files[number % len(files)]
    return Buffer(path, said[path], device.shows)


def save(device: Device, what: str, line: int, number: int, is_heard: bool) -> None:
    """Save what is open, or a file as it stands, after a change; ``is_heard``: the mirror is told of it at once.

    Every other one stays open as it was saved.
    """
    if device.shows is None or device.saved or number % 2:
        take_up(device)
    buffer, device.buffer = device.buffer or _read(device, line), None
    if buffer is None:
        return
    action = next(device.world.deeds.numbers)
    lines: Lines = [json.loads(each) for each in buffer.lines]
    session = lines[0]["id"]
    if what == "remove":
        assert device.shows is not None
        device.saved = Save(action, session, buffer.path, device.shows, None)
        buffer.path.unlink(missing_ok=True)
    else:
        edits = _CHANGES[what if len(lines) > 1 else "add"](lines, line, number, action)
        device.saved = Save(action, session, buffer.path, buffer.knew, edits)
        saved = tuple(json.dumps(each) for each in lines)
        _put(device, buffer.path, "".join(f"{each}\n" for each in saved), by_renaming=number > 1)
        device.buffer = buffer._replace(lines=saved) if line % 2 else None
    if is_heard:
        take_up(device)


def _put(device: Device, path: Path, text: str, *, by_renaming: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    where = path.with_name(f".{path.name}.tmp") if by_renaming else path
    where.write_text(text, encoding="utf-8")
    at_ns = next(device.world.times) * 1_000_000  # two saves within one tick of a clock are another question
    os.utime(where, ns=(at_ns, at_ns))
    where.rename(path)


def _change_line(lines: Lines, line: int, _: int, action: int) -> Field | None:
    """Say something else in a line; one that was added just now has no id in a file that was not read again."""
    chosen = _line(lines, line)
    chosen["content"] = edit_text(action)
    return (lines[0]["id"], chosen["id"], "content") if "id" in chosen else None


def _add_line(lines: Lines, line: int, number: int, action: int) -> None:
    at = 1 + line % len(lines) if number % 2 else len(lines)
    lines.insert(at, {"role": "user", "content": f"<{action}> {MARK} said"})


def _take_out_line(lines: Lines, line: int, *_: int) -> None:
    lines.remove(_line(lines, line))


def _change_metadata(lines: Lines, line: int, number: int, action: int) -> None:
    """Of a message, or of the session: set a leaf, or take it out."""
    chosen = lines[line % len(lines)]
    leaves = chosen.setdefault("metadata", {})
    if leaves.pop("ab"[number % 2], None) is None:
        leaves["ab"[number % 2]] = {"c": f"<{action}> {MARK}"}


def _change_title(lines: Lines, _line: int, _number: int, action: int) -> Field:
    lines[0]["title"] = edit_text(action)
    return lines[0]["id"], None, "title"


def _change_tags(lines: Lines, _: int, number: int, _action: int) -> None:
    lines[0]["tags"] = sorted({*lines[0].get("tags", [])} ^ {"xyz"[number % 3]})


def _line(lines: Lines, line: int) -> dict[str, Any]:
    return lines[1 + line % (len(lines) - 1)]


_CHANGES: dict[str, Callable[[Lines, int, int, int], Field | None]] = {
    "line": _change_line,
    "add": _add_line,
    "take out": _take_out_line,
    "metadata": _change_metadata,
    "title": _change_title,
    "tags": _change_tags,
}
SAVES = {"line": 5, "add": 4, "take out": 2, "metadata": 1, "title": 2, "tags": 1, "remove": 0.7}


# Rest


def check_files(device: Device) -> None:
    """There is one file for each session that is shown, it says what the store says, and nothing lies aside."""
    store, found = device.store, dict[str, bytes]()
    for path in _files(device):
        data = path.read_bytes()
        first = json.loads(data.split(b"\n", 1)[0])
        row, rev = store.live(first["id"]), parse_rev(first["rev"])
        assert rev is not None
        lines = [line_of(message(each)) for each in store.message_rows(row.no)]
        said = render(header_of(header(row), rev=Rev(store.store_name, rev.seq)), lines)
        assert data == said, f"{path.name} of {device.name} is not what the store says"
        found[row.id] = data
    assert sorted(found) == sorted(each.id for each in store.sessions()), f"{device.name} has not a file each"
    aside = [path.name for path in device.files.rglob(f"{_OURS}*")]
    assert aside == [], f"{device.name} has left something aside: {aside}"
