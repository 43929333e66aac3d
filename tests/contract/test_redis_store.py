"""What holds for sessions in Redis beyond what holds for every store: keys, time to live, indexes, and a bad line."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import msgspec
import pytest
import redis

from steno.storage.errors import (
    InvalidInput,
    MissingDriver,
    SessionDeleted,
    StoreDamaged,
    StoreRefused,
    StoreUnreachable,
)
from steno.storage.library.contract import Selection
from steno.storage.library.redis_store import RedisSessionStore
from steno.storage.library.session import Session
from steno.tests.contract.stores import Clock, Wire, contents, loaded, made


@pytest.fixture
def store(redis_url: str, redis_prefix: str) -> Iterator[RedisSessionStore]:
    """A store whose sessions live for a hundred seconds."""
    store = RedisSessionStore(redis_url, redis_prefix, ttl=100, clock=Clock())
    yield store
    store.close()


@pytest.fixture
def lasting(redis_url: str, redis_prefix: str) -> Iterator[RedisSessionStore]:
    """A store of the same sessions whose own last."""
    store = RedisSessionStore(redis_url, redis_prefix, clock=Clock())
    yield store
    store.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def keys(client: redis.Redis) -> list[str]:
    return [str(key) for key in client.keys("*")]


def keys_of(client: redis.Redis, session_id: str) -> list[str]:
    return [key for key in keys(client) if key.endswith(f":{session_id}") and ":index:" not in key]


def expire(client: redis.Redis, session_id: str) -> None:
    """Let a session's time be over."""
    for key in keys_of(client, session_id):
        client.pexpireat(key, 1)


@pytest.mark.check("PYA-7")
def test_every_key_begins_with_the_prefix(store: RedisSessionStore, client: redis.Redis, redis_prefix: str):
    session = made(store, "one", "a", "b", user_id="ann", metadata={"agent_id": "coder"}, state={"a": 1}, tags=["t"])
    session.edit_message(session.messages[0].id, content="A")
    store.save(session)
    made(store, "two")
    store.delete("two")
    assert len(keys(client)) > 5
    assert [key for key in keys(client) if not key.startswith(redis_prefix)] == []


@pytest.mark.check("PYA-7")
def test_a_save_gives_every_key_of_the_session_its_time_to_live(store: RedisSessionStore, client: redis.Redis):
    made(store, "one", "a", user_id="ann")
    assert len(keys_of(client, "one")) == 3
    assert {key: client.ttl(key) for key in keys(client)} == dict.fromkeys(keys(client), 100)


@pytest.mark.check("PYA-7")
@pytest.mark.parametrize("change", ["message", "metadata", "removal"])
def test_each_save_renews_the_time_to_live(store: RedisSessionStore, client: redis.Redis, change: str):
    made(store, "one", "a", "b", user_id="ann")
    for key in keys(client):
        client.expire(key, 7)
    session = loaded(store)
    if change == "message":
        session.add_message("user", "c")
    elif change == "metadata":
        session.metadata["a"] = 1
    else:
        session.remove_messages([session.messages[1].id])
    store.save(session)
    assert {key: client.ttl(key) for key in keys(client)} == dict.fromkeys(keys(client), 100)


@pytest.mark.check("PYA-7")
def test_an_expired_session_is_none_and_in_no_list_and_not_counted(store: RedisSessionStore, client: redis.Redis):
    made(store, "one", "a", user_id="ann", metadata={"agent_id": "coder"}, title="Gone")
    made(store, "two", "b", user_id="ann")
    expire(client, "one")
    assert store.get("one") is None
    assert store.count() == store.count(Selection(user_id="ann")) == 1
    assert [each.id for each in store.list_for_user("ann")] == [each.id for each in store.list_all()] == ["two"]
    assert store.select(Selection(title="Gone")) == store.select(Selection(agent_id="coder")) == []


@pytest.mark.check("PYA-7")
def test_a_session_expires_by_itself(redis_url: str, redis_prefix: str):
    store = RedisSessionStore(redis_url, redis_prefix, ttl=1)
    made(store, "one", "a", user_id="ann")
    while store.get("one") is not None:  # a second, or pytest's time limit
        pass
    assert store.list_for_user("ann") == []
    store.close()


def test_saving_a_session_that_has_expired_raises(store: RedisSessionStore, client: redis.Redis):
    session = made(store, "one", "a")
    expire(client, "one")
    session.add_message("user", "b")
    with pytest.raises(SessionDeleted):
        store.save(session)
    assert keys_of(client, "one") == []


def test_a_list_is_as_long_as_it_can_be_though_the_newest_have_expired(store: RedisSessionStore, client: redis.Redis):
    for number in range(10):
        store.clock.now_ms += 1  # type: ignore[attr-defined]
        made(store, f"s{number}")
    for number in (9, 8, 7, 5):
        expire(client, f"s{number}")
    assert [each.id for each in store.select(Selection(limit=3))] == ["s6", "s4", "s3"]


def test_listing_drops_what_has_expired_from_the_index(
    store: RedisSessionStore, client: redis.Redis, redis_prefix: str
):
    made(store, "one", user_id="ann")
    made(store, "two", user_id="ann")
    expire(client, "one")
    store.list_for_user("ann")
    store.count()
    assert client.zrange(f"{redis_prefix}index:user:ann", 0, -1) == ["two"]
    assert client.zrange(f"{redis_prefix}index:all", 0, -1) == ["two"]


def test_a_session_that_lasts_stays_listed_when_others_expire(
    store: RedisSessionStore, lasting: RedisSessionStore, client: redis.Redis
):
    made(store, "short", user_id="ann")
    made(lasting, "long", user_id="ann")
    made(store, "shorter", user_id="ann")
    assert client.ttl(f"{store.prefix}index:user:ann") == client.ttl(f"{store.prefix}index:all") == -1
    assert {client.ttl(key) for key in keys_of(client, "long")} == {-1}
    assert {client.ttl(key) for key in keys_of(client, "short")} == {100}


def test_a_save_by_a_store_without_time_to_live_makes_a_session_last(
    store: RedisSessionStore, lasting: RedisSessionStore, client: redis.Redis
):
    made(store, "one", "a", user_id="ann")
    session = loaded(lasting)
    session.add_message("user", "b")
    lasting.save(session)
    assert {client.ttl(key) for key in keys(client)} == {-1}


def test_listing_looks_at_no_keys_but_those_it_needs(store: RedisSessionStore, client: redis.Redis):
    for number in range(20):
        made(store, f"s{number}", "a", user_id="ann" if number == 3 else "bob")
    client.config_resetstat()
    store.list_for_user("ann")
    commands = client.info("commandstats")
    assert not {"cmdstat_keys", "cmdstat_scan"} & commands.keys()
    assert commands["cmdstat_get"]["calls"] == 1


def test_what_was_purged_leaves_no_key(store: RedisSessionStore, client: redis.Redis):
    made(store, "one", "a", "b", user_id="ann", metadata={"agent_id": "coder"}, title="T")
    store.delete("one")
    store.purge("one")
    assert keys(client) == []


def test_messages_that_are_cut_off_at_the_beginning_leave_the_list(store: RedisSessionStore, client: redis.Redis):
    session = made(store, "one", *"abcdef")
    session.truncate_messages(2)
    store.save(session)
    assert client.llen(f"{store.prefix}messages:one") == client.hlen(f"{store.prefix}places:one") == 2


def test_what_a_deletion_hid_comes_back_by_a_restore_though_the_session_was_written_to(store: RedisSessionStore):
    made(store, "one", "old", user_id="ann")
    store.delete("one")
    made(store, "one", "new")
    assert contents(store) == ["new"]
    assert store.restore("one")
    assert contents(store) == ["old", "new"]
    assert (loaded(store).message_count, loaded(store).size_bytes, loaded(store).title) == (2, 6, "old")


def test_deleting_does_not_renew_the_time_to_live(store: RedisSessionStore, client: redis.Redis):
    made(store, "one", "a")
    for key in keys_of(client, "one"):
        client.expire(key, 7)
    store.delete("one")
    assert {client.ttl(key) for key in keys_of(client, "one")} == {7}


@pytest.mark.parametrize("ttl", [0, -1])
def test_a_time_to_live_must_be_positive(ttl: int):
    with pytest.raises(InvalidInput):
        RedisSessionStore(ttl=ttl)


# What goes wrong


@pytest.mark.check("PYA-7")
def test_without_the_driver_an_import_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"pip install 'steno\[redis\]'") as caught:
        RedisSessionStore()
    assert isinstance(caught.value, MissingDriver)


def test_a_server_that_does_not_answer_is_named_without_the_password():
    store = RedisSessionStore("redis://ann:secret@127.0.0.1:1")
    with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1:1") as caught:
        store.get("one")
    assert caught.value.retryable
    assert "secret" not in caught.value.line


def test_a_wrong_password_is_refused(redis_url: str, client: redis.Redis):
    client.acl_setuser("guest", enabled=True, passwords=["+right"], keys=["*"], commands=["+@all"])
    store = RedisSessionStore(redis_url.replace("//", "//guest:secret@"))
    with pytest.raises(StoreRefused) as caught:
        store.get("one")
    client.acl_deluser("guest")
    assert not caught.value.retryable
    assert "secret" not in caught.value.line


def test_what_is_no_url_is_not_repeated():
    with pytest.raises(InvalidInput) as caught:
        RedisSessionStore("http://ann:secret@localhost")
    assert "secret" not in caught.value.line


@pytest.mark.parametrize("item", [b"x", b'1\t1\tm\t\n{"role": 3}', b'1\t1\tm\t\n{"role": "\xff"}'])
def test_an_item_that_something_else_wrote_is_reported(store: RedisSessionStore, client: redis.Redis, item: bytes):
    made(store, "one", "a")
    client.rpush(f"{store.prefix}messages:one", item)
    session = loaded(store)
    with pytest.raises(StoreDamaged, match="session one"):
        session.all_messages()


@pytest.mark.parametrize(
    "value",
    [
        b"x",
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"pushed": 1}),
        msgspec.msgpack.encode({"fixed": "{"}),
        b"\x81\xa1\xff\x01",
    ],
)
def test_a_header_that_something_else_wrote_is_reported(store: RedisSessionStore, client: redis.Redis, value: bytes):
    session = made(store, "one", "a")
    client.set(f"{store.prefix}session:one", value)
    with pytest.raises(StoreDamaged, match="session one"):
        store.get("one")
    session.metadata["a"] = 1
    with pytest.raises(StoreDamaged, match="session one"):
        store.save(session)


def test_what_somebody_left_of_a_session_by_removing_its_header_is_not_taken_for_a_new_ones(
    store: RedisSessionStore, client: redis.Redis
):
    session = made(store, "one", "old")
    client.delete(f"{store.prefix}session:one")
    again = Session("one", clock=store.clock)
    again.add_message({"role": "user", "content": "new", "id": session.messages[0].id})
    store.save(again)
    assert contents(store) == ["new"]


def test_a_key_of_another_kind_is_refused(store: RedisSessionStore, client: redis.Redis):
    client.rpush(f"{store.prefix}session:one", "text")
    with pytest.raises(StoreRefused):
        made(store, "one", "a")


def test_a_server_that_forgot_the_scripts_is_told_them_again(store: RedisSessionStore, client: redis.Redis):
    session = made(store, "one", "a")
    client.script_flush()
    session.add_message("user", "b")
    store.save(session)
    assert contents(store) == ["a", "b"]


def test_connections_that_were_cut_are_opened_again(store: RedisSessionStore, client: redis.Redis):
    session = made(store, "one", "a")
    client.client_kill_filter(_type="normal", skipme=True)
    session.add_message("user", "b")
    store.save(session)
    assert contents(store) == ["a", "b"]


def test_a_save_whose_answer_was_lost_is_done_once(redis_url: str, redis_prefix: str):
    wire = Wire(redis_url)
    store = RedisSessionStore(wire.url, redis_prefix, clock=Clock())
    session = made(store, "one", "a")
    session.add_message("user", "b")
    session.metadata["a"] = 1
    wire.lose_next_answer()
    store.save(session)
    assert contents(store) == ["a", "b"]
    assert loaded(store).metadata == {"a": 1}
    store.close()
    wire.close()
