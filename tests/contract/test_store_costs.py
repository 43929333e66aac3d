"""What a store on a server costs: turns and bytes, counted on the way there, do not grow with a session."""

from __future__ import annotations

from steno.storage.library.contract import Backend
from steno.tests.contract.stores import Cost, Wire, loaded, made


def test_an_append_is_one_turn_and_as_many_bytes_however_long_the_session_is(wired: tuple[Backend, Wire]):
    store, wire = wired

    def appended(session_id: str, messages: int) -> Cost:
        made(store, session_id, *(f"{n:04d}" for n in range(messages)))
        session = loaded(store, session_id)
        for _ in range(9):  # so that statements are prepared
            session.add_message("user", "next")
            store.save(session)
        session.add_message("user", "next")
        return wire.cost(lambda: store.save(session))

    short, long = appended("short", 10), appended("long-", 1000)
    assert short.turns == long.turns == 1
    assert abs(short.bytes_sent - long.bytes_sent) < 10  # numbers have more digits
    assert abs(short.bytes_answered - long.bytes_answered) < 10
    assert short.bytes_sent + short.bytes_answered < 2000


def test_finding_and_listing_sessions_loads_no_message(wired: tuple[Backend, Wire]):
    store, wire = wired
    made(store, "short", "x" * 1000, user_id="short")
    made(store, "long-", *["x" * 1000] * 100, user_id="long-")
    for look in (store.get, store.list_for_user):
        for _ in range(9):  # so that statements are prepared
            look("short")
        short, long = (wire.cost(lambda name=name, look=look: look(name)) for name in ("short", "long-"))
        assert abs(short.bytes_answered - long.bytes_answered) < 10


def test_a_stream_is_read_a_few_messages_at_a_time(wired: tuple[Backend, Wire]):
    store, wire = wired
    made(store, "one", *["x" * 500_000] * 20)
    read = store.stream("one")
    assert wire.cost(lambda: next(read)).bytes_answered < 4_000_000
    assert sum(1 for _ in read) == 19
