from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePath

import pytest

from steno.storage.errors import InvalidInput, LocalStorageError
from steno.sync.files import exchange as files_exchange
from steno.sync.files.exchange import Displaced, Replaced, is_torn, is_whole, leftover, make_folder
from steno.sync.files.reading import (
    HOLD_STILL_S,
    FileChanged,
    Fingerprint,
    Look,
    Settling,
    look_at,
    read_once,
    read_settled,
)

both_ways = pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "link-and-rename"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rest-api.k3v9.jsonl"


def _save_by_rename(path: Path, data: bytes) -> None:
    beside = path.with_name("saved-by-an-editor")
    beside.write_bytes(data)
    beside.rename(path)


def replace(path: Path, data: bytes, *, expected: Fingerprint | None, exchange: bool = True) -> Replaced:
    replaced = files_exchange.replace(path, [data], expected=expected, exchange=exchange)
    assert replaced is not None
    return replaced


def _leftovers(folder: Path) -> list[Displaced]:
    return [leftover(path) for path in sorted(folder.iterdir()) if is_whole(path.name)]


def _names(folder: Path) -> list[str]:
    return sorted(found.name for found in folder.iterdir())


class _Clock:
    """Time that passes only by sleeping, and does something at given moments."""

    def __init__(self, *, wall_ns: int = 0, events: dict[float, Callable[[], object]] | None = None) -> None:
        self.now_s, self.wall, self.events = 0.0, wall_ns, events or {}

    def monotonic(self) -> float:
        return self.now_s

    def wall_ns(self) -> int:
        return self.wall

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        for moment in [moment for moment in self.events if moment <= self.now_s]:
            self.events.pop(moment)()

    def read(self, path: Path) -> bytes:
        found = read_settled(path, patience_s=2.0, monotonic=self.monotonic, wall_ns=self.wall_ns, sleep=self.sleep)
        return found.data


@both_ways
def test_a_new_file_is_private_and_leaves_nothing_beside_it(path: Path, exchange: bool) -> None:
    written = replace(path, b"one\n", expected=None, exchange=exchange).written
    assert path.read_bytes() == b"one\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert _names(path.parent) == [path.name]
    assert read_once(path).fingerprint == written


@both_ways
def test_our_own_last_bytes_are_replaced_without_trace(path: Path, exchange: bool) -> None:
    first = replace(path, b"one\n", expected=None, exchange=exchange).written
    second = replace(path, b"two\n", expected=first, exchange=exchange)
    assert second.displaced is None
    assert path.read_bytes() == b"two\n"
    assert _names(path.parent) == [path.name]


@both_ways
def test_a_file_that_appeared_is_never_overwritten(path: Path, exchange: bool) -> None:
    path.write_bytes(b"theirs\n")
    with pytest.raises(FileChanged) as caught:
        replace(path, b"ours\n", expected=None, exchange=exchange)
    assert caught.value.state == "appeared"
    assert path.read_bytes() == b"theirs\n"
    assert _names(path.parent) == [path.name]


@both_ways
def test_a_file_that_vanished_is_not_made_anew(path: Path, exchange: bool) -> None:
    written = replace(path, b"one\n", expected=None, exchange=exchange).written
    path.unlink()
    with pytest.raises(FileChanged) as caught:
        replace(path, b"two\n", expected=written, exchange=exchange)
    assert caught.value.state == "vanished"
    assert _names(path.parent) == []


@both_ways
def test_an_edit_seen_in_time_is_left_alone(path: Path, exchange: bool) -> None:
    written = replace(path, b"one\n", expected=None, exchange=exchange).written
    _save_by_rename(path, b"edit\n")
    with pytest.raises(FileChanged) as caught:
        replace(path, b"two\n", expected=written, exchange=exchange)
    assert caught.value.state == "edited"
    assert path.read_bytes() == b"edit\n"


def _same_look_other_bytes(path: Path) -> Fingerprint:
    """An edit that came after the last look: it shows only in the hash of what was displaced."""
    path.write_bytes(b"edit\n")
    return Fingerprint(*(look_at(path) or ()), sha256=b"\0" * 32)


@both_ways
def test_an_edit_displaced_by_us_is_kept_until_it_is_merged(path: Path, exchange: bool) -> None:
    displaced = replace(path, b"two\n", expected=_same_look_other_bytes(path), exchange=exchange).displaced
    assert displaced is not None
    assert (path.read_bytes(), displaced.kept.read_bytes()) == (b"two\n", b"edit\n")
    assert _leftovers(path.parent) == [displaced]
    assert displaced.discard(read_once(displaced.kept).fingerprint)
    assert _names(path.parent) == [path.name]


@both_ways
def test_an_edit_that_cannot_be_understood_goes_back_to_its_place(path: Path, exchange: bool) -> None:
    written, displaced = replace(path, b"two\n", expected=_same_look_other_bytes(path), exchange=exchange)
    assert displaced is not None
    assert displaced.put_back(written, exchange=exchange) is None
    assert path.read_bytes() == b"edit\n"
    assert _names(path.parent) == [path.name]


@both_ways
def test_a_newer_edit_stays_when_an_older_one_would_go_back(path: Path, exchange: bool) -> None:
    written, displaced = replace(path, b"two\n", expected=_same_look_other_bytes(path), exchange=exchange)
    assert displaced is not None
    _save_by_rename(path, b"newer\n")
    older = displaced.put_back(written, exchange=exchange)
    assert older is not None
    assert (path.read_bytes(), older.kept.read_bytes()) == (b"newer\n", b"edit\n")


def test_a_displaced_file_that_changed_after_it_was_merged_is_kept(path: Path) -> None:
    displaced = replace(path, b"two\n", expected=_same_look_other_bytes(path)).displaced
    assert displaced is not None
    merged = read_once(displaced.kept).fingerprint
    displaced.kept.write_bytes(b"edit, and more\n")
    assert not displaced.discard(merged)
    assert displaced.kept.read_bytes() == b"edit, and more\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell whether a file is open for writing")
def test_a_file_that_an_editor_has_open_for_writing_is_not_removed(path: Path) -> None:
    written = replace(path, b"one\n", expected=None).written
    with path.open("r+b", buffering=0) as editor:
        displaced = replace(path, b"two\n", expected=written).displaced
        editor.write(b"typed in place\n")
    assert displaced is not None
    assert displaced.kept.read_bytes() == b"typed in place\n"


def test_a_set_aside_file_goes_back_to_its_empty_place(path: Path) -> None:
    path.with_name(f".steno-0011.{path.name}.swap").write_bytes(b"one\n")
    (left,) = _leftovers(path.parent)
    assert left.target == path
    left.put_back(None)
    assert path.read_bytes() == b"one\n"
    assert _leftovers(path.parent) == []


def test_a_name_of_255_bytes_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 249 + ".jsonl")
    written = replace(path, b"one\n", expected=None).written
    replace(path, b"two\n", expected=written)
    assert path.read_bytes() == b"two\n"


@pytest.mark.parametrize(
    ("exchange", "point"),
    [
        (True, "temp-written"),
        (True, "exchanged"),
        (True, "displaced-kept"),
        (False, "temp-written"),
        (False, "set-aside"),
        (False, "exchanged"),
    ],
)
def test_a_crash_anywhere_loses_neither_the_edit_nor_the_file(path: Path, exchange: bool, point: str) -> None:
    path.write_bytes(b"edit\n")
    program = (
        "import sys\nfrom pathlib import Path\nfrom steno.sync.files.exchange import replace\n"
        "from steno.sync.files.reading import Fingerprint, look_at\npath = Path(sys.argv[1])\n"
        "expected = Fingerprint(*look_at(path), sha256=bytes(32))\n"
        f"replace(path, [b'ours\\n'], expected=expected, exchange={exchange})"
    )
    environment = {**os.environ, "STENO_KILL_AT": f"files.{point}"}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=environment, check=False)
    assert done.returncode == -9
    kept = {left.kept.read_bytes() for left in _leftovers(path.parent)}
    assert b"edit\n" in kept | ({path.read_bytes()} if path.exists() else set())
    assert {left.target for left in _leftovers(path.parent)} == {path}


def test_a_half_written_file_of_ours_is_told_from_others(tmp_path: Path) -> None:
    (tmp_path / ".steno-0011.x.jsonl.part").write_bytes(b"ha")
    (tmp_path / ".steno-0011.x.jsonl.swap").write_bytes(b"whole\n")
    (tmp_path / "x.jsonl.part").write_bytes(b"another tool's")
    assert [name for name in _names(tmp_path) if is_torn(name)] == [".steno-0011.x.jsonl.part"]
    assert [name for name in _names(tmp_path) if is_whole(name)] == [".steno-0011.x.jsonl.swap"]


def test_a_disk_without_room_leaves_the_old_file_and_no_temporary_one(path: Path) -> None:
    written = replace(path, b"one\n", expected=None).written
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(LocalStorageError, match="rest-api"):
            replace(path, b"x" * 100_000, expected=written)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"one\n"
    assert _names(path.parent) == [path.name]


def test_a_missing_folder_is_a_storage_error_that_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(LocalStorageError, match=r"gone/x\.jsonl"):
        replace(tmp_path / "gone" / "x.jsonl", b"", expected=None)


def test_folders_are_private_and_never_made_below_a_missing_root(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, PurePath("2026/11"))
    assert {stat.S_IMODE(made.stat().st_mode) for made in (folder, folder.parent)} == {0o700}
    assert make_folder(tmp_path, PurePath("2026/11")) == folder
    with pytest.raises(LocalStorageError, match="unmounted"):
        make_folder(tmp_path / "unmounted", PurePath("2026/11"))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/hostname")])
def test_what_is_no_plain_file_is_neither_read_nor_replaced(path: Path, make: Callable[[Path], object]) -> None:
    make(path)
    with pytest.raises(InvalidInput, match="no plain file"):
        read_once(path)
    with pytest.raises(InvalidInput, match="no plain file"):
        replace(path, b"", expected=None)


def test_a_file_beyond_the_limit_is_not_read(path: Path) -> None:
    path.write_bytes(b"12345")
    with pytest.raises(InvalidInput, match="larger than 4 bytes"):
        read_once(path, limit_bytes=4)


def test_a_look_that_changes_starts_the_waiting_anew() -> None:
    settling = Settling.begin(Look(1, 1, 1), now_s=10.0, age_s=0.0)
    assert settling.wait_s(now_s=10.0) == pytest.approx(HOLD_STILL_S)
    assert settling.seen(Look(1, 1, 1), now_s=10.2).wait_s(now_s=10.2) == 0
    assert settling.seen(Look(2, 1, 1), now_s=10.2).wait_s(now_s=10.25) == pytest.approx(0.05)


def test_a_file_from_long_ago_is_read_at_once(path: Path) -> None:
    path.write_bytes(b"old\n")
    clock = _Clock(wall_ns=path.stat().st_ctime_ns + 3_000_000_000)
    assert clock.read(path) == b"old\n"
    assert clock.now_s == 0


def test_a_file_that_is_still_growing_is_read_when_it_holds_still(path: Path) -> None:
    path.write_bytes(b"be")
    clock = _Clock(events={0.1: lambda: path.write_bytes(b"begun"), 0.2: lambda: path.write_bytes(b"begun, done\n")})
    assert clock.read(path) == b"begun, done\n"
    assert clock.now_s == pytest.approx(0.3)


def test_a_file_that_never_holds_still_is_given_up_for_now(path: Path) -> None:
    path.write_bytes(b"")
    clock = _Clock(events={n / 20: lambda n=n: path.write_bytes(b"x" * n) for n in range(1, 99)})
    with pytest.raises(FileChanged, match="edited"):
        clock.read(path)


def test_a_file_that_vanishes_while_it_settles_is_said_to_have_vanished(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(FileChanged, match="vanished"):
        _Clock(events={0.05: path.unlink}).read(path)


def _edit_whenever_ours_is_there(path: Path, saves: int) -> None:
    for number in range(saves):
        _save_by_rename(path, b"E%d\n" % number)
        while _bytes_of(path) == b"E%d\n" % number:
            pass


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


@both_ways
def test_no_save_of_a_fast_editor_is_overwritten_unseen(path: Path, exchange: bool) -> None:
    last = replace(path, b"D\n", expected=None).written
    editor = multiprocessing.get_context("fork").Process(target=_edit_whenever_ours_is_there, args=(path, 300))
    editor.start()
    seen: set[bytes] = set()
    while editor.is_alive():
        try:
            last, displaced = replace(path, b"D\n", expected=last, exchange=exchange)
        except FileChanged as changed:
            displaced = Displaced(path, changed.kept) if changed.kept else None
            with contextlib.suppress(FileChanged):
                data, last = read_once(path)
                seen.add(data)
        if displaced:
            seen.add(displaced.kept.read_bytes())
            displaced.kept.unlink()
    assert editor.exitcode == 0
    assert {b"E%d\n" % number for number in range(300)} <= seen
