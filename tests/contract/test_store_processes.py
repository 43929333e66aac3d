"""Several processes and one store on a server, each with connections of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from steno.storage.library.contract import Backend
from steno.tests.contract.stores import Clock, contents, loaded, made, on_server

WRITER = """
import sys
from steno.storage.library.{module} import {name}
store = {name}(sys.argv[1], **{options})
session = store.get("one")
for number in range(25):
    session.add_message("user", f"{{sys.argv[2]}}:{{number}}")
    session.metadata[f"{{sys.argv[2]}}:{{number}}"] = number
    store.save(session)
store.close()
"""


@pytest.fixture(params=["redis", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def store(kind: str, request: pytest.FixtureRequest):
    store = on_server(kind, request.getfixturevalue(f"{kind}_url"), request, Clock())
    yield store
    store.close()


def test_processes_that_save_one_session_at_once_keep_every_message_once_and_every_key(
    store: Backend, kind: str, request: pytest.FixtureRequest
):
    made(store, "one")
    if kind == "redis":
        module, name, options = "redis_store", "RedisSessionStore", {"prefix": request.getfixturevalue("redis_prefix")}
    else:
        module, name = "postgres_store", "PostgresSessionStore"
        options = {"schema": request.getfixturevalue("postgres_schema")}
    program = WRITER.format(module=module, name=name, options=options)
    url = request.getfixturevalue(f"{kind}_url")
    writers = [subprocess.Popen([sys.executable, "-c", program, url, str(number)]) for number in range(4)]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    expected = {f"{writer}:{number}": number for writer in range(4) for number in range(25)}
    assert sorted(contents(store)) == sorted(expected)
    assert loaded(store).metadata == expected


def test_a_process_that_was_forked_and_its_parent_do_not_disturb_each_other(store: Backend):
    made(store, "one", "a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads are running, as they are in any server
        child = os.fork()
    if child == 0:
        try:
            session = loaded(store)
            session.add_message("user", "of the child")
            store.save(session)
        except BaseException:  # noqa: BLE001  pytest must not go on in here
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    session = loaded(store)
    session.add_message("user", "of the parent")
    store.save(session)
    assert contents(store) == ["a", "of the child", "of the parent"]
