"""Fixtures of the contract suites: a store, and the place where it keeps its sessions."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.library.contract import Backend
from steno.tests.contract.stores import OURS, OWN, SERVERS, Clock, Place, Wire, on_server, place_of


@pytest.fixture
def postgres_schema(postgres_url: str) -> Iterator[str]:
    """The name of a schema that no other test uses; it is dropped after the test."""
    import psycopg

    schema = f"test_{secrets.token_hex(6)}"
    yield schema
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


@pytest.fixture(params=OURS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """One of our stores."""
    with place_of(request.param, request, tmp_path) as found:
        yield found


@pytest.fixture(params=OURS + OWN)
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """One of our stores, or of somebody else's."""
    with place_of(request.param, request, tmp_path) as found:
        yield found


@pytest.fixture(params=OWN)
def own_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """One of somebody else's stores."""
    with place_of(request.param, request, tmp_path) as found:
        yield found.open()


@pytest.fixture
def store(place: Place) -> Backend:
    """One of our stores, opened once."""
    return place.open()


@pytest.fixture
def any_store(any_place: Place) -> Backend:
    """One of our stores, or of somebody else's, opened once."""
    return any_place.open()


@pytest.fixture(params=SERVERS)
def wired(request: pytest.FixtureRequest) -> Iterator[tuple[Backend, Wire]]:
    """A store whose server is reached over a wire that counts."""
    wire = Wire(request.getfixturevalue(f"{request.param}_url"))
    options = {"pool_size": 1} if request.param == "postgres" else {}  # a statement is prepared on each connection
    store = on_server(request.param, wire.url, request, Clock(), **options)
    yield store, wire
    store.close()
    wire.close()
