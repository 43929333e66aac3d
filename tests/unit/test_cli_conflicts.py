"""``steno conflicts`` lists, shows and settles, and names a device as it names itself."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steno.cli.main import main
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.unit.test_settling import tell


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The store of a home that differs from another device in a title and in a message's text."""
    monkeypatch.setenv("STENO_HOME", str(tmp_path))
    clock = itertools.count(1_800_000_000_000, 1000)
    here, there = (Store(tmp_path / f"{name}.db", now_ms=lambda: next(clock)) for name in ("steno", "other"))
    with here, there:
        here.create(id="s", title="First")
        here.append("s", NewMessage(id="m", role="user", content="text"))
        tell(here, there)
        for store, value in ((here, "mine"), (there, "theirs")):
            store.update("s", fields={"title": value})
            store.edit_message("s", "m", {"content": value})
        tell(there, here)
        record = msgspec.json.encode({"steno_device": 1, "name": "desktop"})
        with here.transaction():
            here.execute("INSERT INTO peers VALUES ('v', ?, 1, ?)", (there.device, record))
        yield here


@pytest.fixture
def run(store: Store, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str, code: int = 0) -> str:
        found = main(("conflicts", *arguments))
        said = capsys.readouterr()
        assert found == code, said.err
        return said.err if code else said.out

    return run


def test_without_a_subcommand_all_are_listed(run: Any):
    assert {each["field"] for each in json.loads(run("--json"))} == {"title", "content"}


def test_each_value_is_shown_with_its_number_its_device_and_which_is_shown(run: Any):
    lines = [line.split("  (")[0].split() for line in run("show", "s", "title").splitlines()[1:]]
    assert lines == [["2", "shown", '"theirs"'], ["1", "also", '"mine"']]
    assert "(desktop, " in run("show", "s", "title")
    assert "(this device, " in run("show", "s", "title")


def test_a_message_s_field_is_named_with_its_message(run: Any):
    found = json.loads(run("show", "s", "content", "--message", "m", "--json"))
    assert [(each["message"], each["field"]) for each in found] == [("m", "content")]


def test_who_names_a_message_s_field_without_the_message_is_told_where_it_is(run: Any):
    assert "add --message m" in run("show", "s", "content", code=3)


def test_a_value_is_restored_by_its_number(run: Any, store: Store):
    assert run("restore", "s", "title", "1") == 's: title is now "mine"\n'
    assert store.get("s").title == "mine"
    assert "no open conflict" in run("show", "s", "title", code=3)


def test_a_message_s_value_is_restored(run: Any, store: Store):
    run("restore", "s", "content", "1", "--message", "m")
    assert [each.content for each in store.messages("s")] == ["mine"]


def test_a_number_that_no_value_has_is_refused(run: Any):
    assert "numbered from 1 to 2" in run("restore", "s", "title", "3", code=4)


def test_one_field_is_dismissed(run: Any, store: Store):
    assert run("dismiss", "s", "title") == 's: title stays "theirs"\n'
    assert [each["field"] for each in json.loads(run("--json"))] == ["content"]
    assert store.get("s").title == "theirs"


def test_all_of_a_session_is_dismissed(run: Any):
    assert len(json.loads(run("dismiss", "s", "--json"))["dismissed"]) == 2
    assert json.loads(run("--json")) == []
    run("dismiss", "s", code=3)


def test_all_of_a_message_is_dismissed(run: Any):
    run("dismiss", "s", "--message", "m")
    assert [each["field"] for each in json.loads(run("--json"))] == ["title"]
