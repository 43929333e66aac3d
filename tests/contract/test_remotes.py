"""What every remote keeps, whatever lies behind it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from steno.storage.errors import InvalidInput, ObjectDamaged, ObjectMissing
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.remote import Remote, open_remote


@pytest.fixture(params=["memory", "folder"])
async def remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Remote]:
    remote = MemoryRemote() if request.param == "memory" else open_remote(str(tmp_path / "remote"), create=True)
    yield remote
    await remote.close()


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)), os.urandom(5_000_000)], ids=len)
async def test_what_was_put_is_got(remote: Remote, data: bytes):
    await remote.put("log/one", data)
    assert await remote.get("log/one") == data


async def test_an_object_that_is_not_there_is_missing(remote: Remote):
    await remote.put("log/one", b"1")
    with pytest.raises(ObjectMissing) as caught:
        await remote.get("log/two")
    assert caught.value.name == "log/two"


async def test_an_empty_remote_lacks_everything(remote: Remote):
    with pytest.raises(ObjectMissing):
        await remote.get("vault.json")


async def test_a_put_of_the_same_name_replaces_the_whole(remote: Remote):
    await remote.put("vault.json", b"a long first version")
    await remote.put("vault.json", b"second")
    assert await remote.get("vault.json") == b"second"


async def test_a_listing_names_the_objects_of_one_directory_in_order(remote: Remote):
    for name in ("log/b", "log/a", "keys/c", "vault.json", "log/a.2"):
        await remote.put(name, b"x")
    assert await remote.list("log/") == ["log/a", "log/a.2", "log/b"]


async def test_a_listing_of_the_root_leaves_out_directories(remote: Remote):
    await remote.put("log/a", b"x")
    await remote.put("vault.json", b"x")
    assert await remote.list("") == ["vault.json"]


async def test_a_directory_that_is_absent_lists_as_empty(remote: Remote):
    assert await remote.list("log/") == []
    await remote.put("keys/a", b"x")
    assert await remote.list("log/") == []


async def test_a_directory_whose_objects_are_gone_lists_as_empty(remote: Remote):
    await remote.put("log/a", b"x")
    await remote.delete("log/a")
    assert await remote.list("log/") == []


async def test_a_deleted_object_is_missing(remote: Remote):
    await remote.put("log/a", b"x")
    await remote.delete("log/a")
    with pytest.raises(ObjectMissing):
        await remote.get("log/a")


async def test_deleting_what_is_not_there_is_no_error(remote: Remote):
    await remote.delete("log/a")
    await remote.put("log/b", b"x")
    await remote.delete("log/a")
    assert await remote.list("log/") == ["log/b"]


async def test_an_object_above_the_limit_is_damage(remote: Remote):
    await remote.put("log/a", b"12345")
    with pytest.raises(ObjectDamaged) as caught:
        await remote.get("log/a", limit_bytes=4)
    assert caught.value.name == "log/a"


async def test_an_object_of_the_limit_is_got(remote: Remote):
    await remote.put("log/a", b"12345")
    assert await remote.get("log/a", limit_bytes=5) == b"12345"


@pytest.mark.parametrize("name", ["../a", "log/../../a", "/etc/hostname", "log/", ".tmp/a", "log/.a", ""])
async def test_a_name_that_leads_elsewhere_is_refused(remote: Remote, name: str):
    with pytest.raises(InvalidInput):
        await remote.put(name, b"x")
    with pytest.raises(InvalidInput):
        await remote.get(name)
    with pytest.raises(InvalidInput):
        await remote.delete(name)


async def test_many_calls_at_once_do_not_disturb_each_other(remote: Remote):
    contents = {f"log/{number:02d}": bytes([number]) * 1000 for number in range(40)}
    await asyncio.gather(*(remote.put(name, data) for name, data in contents.items()))
    assert await asyncio.gather(*(remote.get(name) for name in contents)) == list(contents.values())
    assert await remote.list("log/") == sorted(contents)


async def test_a_reader_never_sees_half_of_an_object_that_is_being_replaced(remote: Remote):
    first, second = b"1" * 300_000, b"2" * 300_000
    await remote.put("log/a", first)

    async def replaced() -> None:
        for number in range(10):
            await remote.put("log/a", second if number % 2 else first)

    writer = asyncio.create_task(replaced())
    while not writer.done():
        assert await remote.get("log/a") in {first, second}
    await writer


async def test_every_request_is_counted_failures_included(remote: Remote):
    await remote.put("log/a", b"x")
    await remote.get("log/a")
    with pytest.raises(ObjectMissing):
        await remote.get("log/b")
    await remote.list("log/")
    await remote.delete("log/a")
    assert remote.requests == {"put": 1, "get": 2, "list": 1, "delete": 1}


async def test_a_listing_is_one_request_however_long_it_is(remote: Remote):
    for number in range(300):
        await remote.put(f"log/{number}", b"x")
    before = remote.requests.total()
    assert len(await remote.list("log/")) == 300
    assert remote.requests.total() - before == 1


async def test_no_news_comes_where_nothing_happens(remote: Remote):
    assert await remote.news(timeout_s=0.001) is False
