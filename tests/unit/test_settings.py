"""What may be set is what docs/config.md says; all that is wrong is named at once."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import steno.storage.settings
from steno.storage.errors import InvalidInput
from steno.storage.settings import Daemon, Session, Settings, Storage, Vault, settings_of, wanted

ROOT = Path(steno.storage.settings.__file__).parents[1]
SECTIONS = {"session": Session, "storage": Storage, "vault": Vault, "daemon": Daemon}


def refused(mapping: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        settings_of(mapping, where="config.toml")
    return caught.value.line


def documented() -> dict[str, list[tuple[str, str, str]]]:
    """The tables of the page: by section, what stands in the first three columns."""
    tables: dict[str, list[tuple[str, str, str]]] = {}
    section = ""
    for line in (ROOT / "docs/config.md").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"## `\[(\w+)\]`", line):
            section = heading[1]
        elif row := re.fullmatch(r"\| `([\w-]+)` \| (.+?) \| (.+?) \| \S.* \|", line):
            tables.setdefault(section, []).append((row[1], row[2].strip("`"), row[3]))
    return tables


@pytest.mark.check("COD-16")
def test_the_page_lists_every_setting_with_its_default_and_what_it_may_be():
    assert documented() == {
        name: [
            (field.encode_name, "the home" if field.default is None else json.dumps(field.default), wanted(field.type))
            for field in msgspec.structs.fields(section)
        ]
        for name, section in SECTIONS.items()
    }


def test_there_are_no_other_sections():
    assert {field.name: field.type for field in msgspec.structs.fields(Settings)} == SECTIONS


@pytest.mark.check("COD-16")
def test_what_nobody_set_is_the_default():
    found = settings_of({}, where="config.toml")
    assert found == Settings()
    session = found.session
    assert (session.backend, session.storage_path, session.autosave_interval) == ("sqlite", None, 300)
    assert (session.max_session_size, session.compress_messages) == (100, True)
    assert (session.connection_pool_size, session.message_cache_size, session.strict_users) == (5, 1000, False)


@pytest.mark.check("COD-16")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("backend", each) for each in ("sqlite", "memory", "redis", "postgres")],
        ("storage_path", "~/.coda/sessions"),
        ("storage_path", None),
        ("autosave_interval", 0),
        ("autosave_interval", 0.5),
        ("max_session_size", 1),
        ("max_session_size", 0.25),
        ("compress_messages", False),
        ("connection_pool_size", 1),
        ("connection_pool_size", 100),
        ("message_cache_size", 0),
        ("strict_users", True),
    ],
)
def test_a_setting_is_taken_over(key: str, value: Any):
    assert getattr(settings_of({"session": {key: value}}, where="a mapping").session, key) == value


@pytest.mark.check("COD-16")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backend", "mysql"),
        ("backend", 1),
        ("storage_path", ""),
        ("storage_path", 1),
        ("autosave_interval", -1),
        ("autosave_interval", "300"),
        ("autosave_interval", True),
        ("autosave_interval", math.inf),
        ("autosave_interval", math.nan),
        ("autosave_interval", 10**400),
        ("autosave_interval", None),
        ("max_session_size", 0),
        ("max_session_size", -1),
        ("max_session_size", math.inf),
        ("max_session_size", [100]),
        ("compress_messages", 1),
        ("compress_messages", "true"),
        ("connection_pool_size", 0),
        ("connection_pool_size", 101),
        ("connection_pool_size", 5.5),
        ("connection_pool_size", True),
        ("message_cache_size", -1),
        ("strict_users", "no"),
    ],
)
def test_a_value_that_a_setting_cannot_hold_is_refused_with_its_key_and_what_it_may_be(key: str, value: Any):
    types = {field.name: field.type for field in msgspec.structs.fields(Session)}
    assert f"[session] {key} must be {wanted(types[key])}, not " in refused({"session": {key: value}})


@pytest.mark.check("COD-16", "COD-12")
def test_an_unknown_backend_is_refused_with_the_names_of_those_there_are():
    line = refused({"session": {"backend": "mysql"}})
    assert all(name in line for name in ("mysql", "sqlite", "memory", "redis", "postgres"))


@pytest.mark.check("COD-16")
@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"session": {"autosave_intervall": 1}}, "[session] autosave_intervall is not a setting (did you mean"),
        (
            {"session": {"compress_message": True}},
            "compress_message is not a setting (did you mean compress_messages?)",
        ),
        ({"storage": {"durabilty": "full"}}, "[storage] durabilty is not a setting (did you mean durability?)"),
        ({"sesion": {}}, "[sesion] is not a section (did you mean session?)"),
    ],
)
def test_a_mistyped_name_is_refused_with_the_one_that_was_meant(mapping: Any, said: str):
    assert said in refused(mapping)


def test_projects_stay_here_where_they_are_named():
    assert settings_of({"vault": {"local-only": ["a", "b"]}}, where="config.toml").vault.local_only == ("a", "b")


@pytest.mark.parametrize("given", ["client-x", [""], [1], {"client-x": True}])
def test_what_is_no_list_of_projects_is_refused(given: Any):
    assert "[vault] local-only must be a list of names, not " in refused({"vault": {"local-only": given}})


def test_a_name_like_no_other_is_refused_with_all_there_are():
    assert "[daemon] host is not a setting (there are port)" in refused({"daemon": {"host": "0.0.0.0"}})
    assert "[xyz] is not a section (there are daemon, session, storage, vault)" in refused({"xyz": {}})


@pytest.mark.parametrize("given", [7, None, [], "sqlite", True])
def test_a_section_that_holds_no_keys_is_refused(given: Any):
    assert "[session] must be a section with keys, not " in refused({"session": given})


def test_all_that_is_wrong_is_said_at_once_behind_the_name_of_the_place():
    line = refused({"session": {"backend": "x", "nonsense": 1}, "deamon": {}, "daemon": {"port": -1}})
    assert line.startswith("config.toml: ")
    places = [line.find(each) for each in ("[session] backend", "[session] nonsense", "[deamon]", "[daemon] port")]
    assert -1 not in places
    assert all(before < after for before, after in itertools.pairwise(places))


def test_a_long_value_is_not_repeated_whole():
    assert len(refused({"session": {"connection_pool_size": "9" * 10_000}})) < 200


def test_what_is_read_as_right_does_not_look_for_the_name_that_was_meant():
    code = (
        "import sys; from steno.storage.settings import settings_of; settings_of({'daemon': {'port': 1}}, where='x'); "
        "print('difflib' in sys.modules)"
    )
    assert _python(code) == "False"


def _python(code: str) -> str:
    import subprocess
    import sys

    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
