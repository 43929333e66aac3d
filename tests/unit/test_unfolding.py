"""A batch is decoded the same piece by piece, and one that would unfold to too much is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from steno.storage import unfolding
from steno.storage.change import VERSION, decode_batch, local_changes
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.storage.unfolding import unfolded
from steno.tests.unit.test_settling import tell

MESSAGE = ("m", 1, 4, None, 0, "user", None, "", 0, None, None, None, None, None, None, None)
REGISTER = (None, "title", ([(1, 4, b"", b"")], [(4, 1)]))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A batch in which stands whatever one can hold."""
    folder = tmp_path_factory.mktemp("unfolding")
    with Store(folder / "here.db") as here, Store(folder / "there.db") as there:
        here.actor = "ada"
        for at in range(5):
            here.create(id=f"s{at}", title="T", tags=["a", "b"], metadata={"k": {"l": at}}, state={"x": 1})
            here.append(f"s{at}", NewMessage(id="m", role="user", content="text", metadata={"k": 1}))
        here.append("s1", NewMessage(role="user", content=[{"type": "text", "text": "block"}]))
        tell(here, there)
        for store in (here, there):
            store.edit_message("s1", "m", {"content": f"by {store.device}"})
        tell(there, here)
        here.delete("s2")
        found, _, whole = local_changes(here, since=0, floor=0, max_bytes=1 << 30)
    assert whole
    return msgspec.msgpack.encode((*msgspec.msgpack.decode(found), {"q" * 12: [(1, 2), (5, 9)]}))


@pytest.mark.parametrize("piece_bytes", [0, 60, 400, 1 << 20])
def test_a_batch_is_the_same_in_pieces_of_any_size(content: bytes, piece_bytes: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unfolding, "PIECE_BYTES", piece_bytes)
    assert unfolded(content) == decode_batch(content)


def _batch(**lists: Any) -> bytes:
    session = ("s", 1, lists.get("births", []), 0, lists.get("registers", []), lists.get("messages", []))
    return msgspec.msgpack.encode(
        (VERSION, lists.get("devices", {}), lists.get("sessions", [session]), lists.get("stands_for", {}))
    )


LARGE = {
    "devices": _batch(devices=dict.fromkeys(range(99), "d")),
    "sessions": _batch(sessions=[("s", 1, [], 0, [], [])] * 99),
    "births": _batch(births=[(1, 4, 0, None, None)] * 99),
    "registers": _batch(registers=[REGISTER] * 99),
    "messages": _batch(messages=[MESSAGE] * 99),
    "ranges": _batch(stands_for={"d": [(1, 1)] * 99}),
    "values of a register": _batch(registers=[(None, "title", ([(1, 4, b"", b"")] * 99, []))]),
    "writers known to a register": _batch(registers=[(None, "title", ([], [(4, 1)] * 99))]),
    "a content that is a list": _batch(messages=[(*MESSAGE[:7], [[None] * 50] * 2, *MESSAGE[8:])]),
}


@pytest.mark.fault(37)
@pytest.mark.parametrize("piece_bytes", [0, 60])
@pytest.mark.parametrize("what", LARGE)
def test_more_of_anything_than_a_batch_of_ours_holds_is_refused(
    what: str, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(unfolding, "PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(unfolding, "MAX_ENTRIES", 98)
    with pytest.raises(msgspec.ValidationError):
        unfolded(LARGE[what])


@pytest.mark.parametrize("what", LARGE)
def test_as_much_as_a_batch_of_ours_may_hold_is_decoded(what: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unfolding, "MAX_ENTRIES", 200)
    assert unfolded(LARGE[what]) == decode_batch(LARGE[what])


@pytest.mark.parametrize("content", [b"", b"\xc0", b"\x93\x01\xc0\xc0", b"\x93\x01\x80\xa1a", b"\x93\x01\x80\x91\x90"])
def test_what_is_no_batch_is_refused(content: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unfolding, "PIECE_BYTES", 0)
    with pytest.raises(msgspec.MsgspecError):
        unfolded(content)
