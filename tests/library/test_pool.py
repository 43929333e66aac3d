"""Connections are shared by threads, reused within one, and never by two processes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from steno.storage.errors import LocalStorageError
from steno.storage.library.pool import Pool
from steno.storage.store import Store


def _pool(path: Path, opened: list[Store], *, size: int = 2) -> Pool:
    def opener() -> Store:
        opened.append(Store(path))
        return opened[-1]

    return Pool(opener, size=size)


def test_a_thread_gets_the_connection_again_that_it_has(tmp_path: Path):
    opened: list[Store] = []
    pool = _pool(tmp_path / "s.db", opened)
    with pool.take() as first, pool.take() as second:
        assert first is second
    with pool.take() as third:
        assert third is first
    assert len(opened) == 1
    pool.close()


def test_two_threads_have_two_connections(tmp_path: Path):
    opened: list[Store] = []
    pool = _pool(tmp_path / "s.db", opened)
    inside = threading.Barrier(2)

    def hold() -> None:
        with pool.take():
            inside.wait(30)

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(opened) == 2
    pool.close()


def test_a_closed_pool_gives_nothing(tmp_path: Path):
    pool = _pool(tmp_path / "s.db", [])
    pool.close()
    pool.close()
    with pytest.raises(LocalStorageError, match="closed"), pool.take():
        pass


def test_what_is_taken_while_the_pool_is_closed_is_closed_when_it_is_given_back(tmp_path: Path):
    opened: list[Store] = []
    pool = _pool(tmp_path / "s.db", opened)
    with pool.take() as store:
        pool.close()
        assert store.count() == (0, 0)
    with pytest.raises(LocalStorageError):
        opened[0].count()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_opens_its_own(tmp_path: Path):
    opened: list[Store] = []
    pool = _pool(tmp_path / "s.db", opened)
    with pool.take() as store:
        store.create(id="parent")
    child = os.fork()
    if child == 0:  # whatever happens, this process must end here
        with pool.take() as store:
            store.create(id="child")
        os._exit(0 if len(opened) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pool.take() as store:
        assert {each.id for each in store.sessions()} == {"parent", "child"}
    pool.close()
