"""A key is changed, and everything else in the file stays; what could not be read again is never written."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from steno.storage.errors import InvalidInput
from steno.storage.home import Home
from steno.storage.model import Json
from steno.storage.settings import Settings
from steno.storage.settings_file import all_settings, replace_settings, set_setting, setting, unset_setting

WRITTEN = """\
# Mine.

[session]
backend = "memory"   # for a try
# How long:
autosave_interval = 60

[daemon]  # at home
port = 9000
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = tmp_path / "home"
    place.mkdir(mode=0o700)
    (place / "config.toml").write_text(WRITTEN)
    return Home(place, place)


def text(home: Home) -> str:
    return home.config_file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("session.backend", ["redis"], "redis"),
        ("session.backend", ['"redis"'], "redis"),
        ("session.autosave_interval", ["0.5"], 0.5),
        ("session.strict_users", ["true"], True),
        ("session.storage_path", ["~/ünder way"], "~/ünder way"),
        ("session.storage_path", ["42"], "42"),
        ("daemon.port", ["0"], 0),
        ("vault.local-only", ["diary"], ["diary"]),
        ("vault.local-only", ["diary", "a b"], ["diary", "a b"]),
        ("vault.local-only", ["[]"], []),
        ("vault.local-only", ['["diary"]'], ["diary"]),
    ],
)
def test_what_a_person_types_is_read_as_what_the_key_holds(
    home: Home, name: str, words: list[str], value: Json
) -> None:
    assert set_setting(home, name, words).value == value
    assert setting(home.settings(), name).value == value


def test_everything_else_in_the_file_stays(home: Home) -> None:
    set_setting(home, "session.backend", ["sqlite"])
    assert text(home) == WRITTEN.replace('"memory"', '"sqlite"')


def test_a_key_of_a_section_that_is_not_there_yet_is_added_at_the_end(home: Home) -> None:
    set_setting(home, "storage.durability", ["full"])
    assert text(home) == WRITTEN + '\n[storage]\ndurability = "full"\n'


def test_a_file_that_is_not_there_is_made(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path / "new" / "config")
    set_setting(home, "daemon.port", ["0"])
    assert text(home) == "[daemon]\nport = 0\n"
    assert stat.S_IMODE(home.config_file.stat().st_mode) == 0o600


def test_the_file_is_its_owner_s_alone_afterwards(home: Home) -> None:
    home.config_file.chmod(0o644)
    set_setting(home, "daemon.port", ["0"])
    assert stat.S_IMODE(home.config_file.stat().st_mode) == 0o600


def test_a_file_that_is_a_link_stays_one(home: Home, tmp_path: Path) -> None:
    real = home.config_file.rename(tmp_path / "dotfile.toml")
    home.config_file.symlink_to(real)
    set_setting(home, "daemon.port", ["0"])
    assert (home.config_file.is_symlink(), "port = 0" in real.read_text()) == (True, True)


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("daemon.port", ["99999"], "[daemon] port must be a whole number from 0 to 65535, not 99999"),
        ("daemon.port", ["many"], "[daemon] port must be a whole number from 0 to 65535, not 'many'"),
        ("daemon.port", ["1", "2"], "[daemon] port must be a whole number from 0 to 65535, not ['1', '2']"),
        ("session.backend", ["mysql"], '[session] backend must be "sqlite", "memory", "redis" or "postgres"'),
        ("session.strict_users", ["yes"], "[session] strict_users must be true or false, not 'yes'"),
        ("session.storage_path", [""], "[session] storage_path must be text with at least one character"),
        ("daemon.port", ["[" * 5000], "[daemon] port must be a whole number from 0 to 65535, not '[["),
        ("deamon.port", ["1"], "there is no setting deamon.port: did you mean daemon.port?"),
        ("port", ["1"], "there is no setting port: did you mean daemon.port?"),
        ("zzzzzzz", ["1"], "there is no setting zzzzzzz: see `steno config list`"),
    ],
)
def test_a_bad_key_or_value_is_told_with_what_is_allowed_and_nothing_is_written(
    home: Home, name: str, words: list[str], said: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        set_setting(home, name, words)
    assert said in caught.value.line
    assert text(home) == WRITTEN


def test_a_good_value_takes_the_place_of_a_bad_one(home: Home) -> None:
    home.config_file.write_text("[daemon]\nport = 'many'\n")
    assert set_setting(home, "daemon.port", ["1"]).value == 1


def test_a_file_that_is_no_toml_is_not_changed(home: Home) -> None:
    home.config_file.write_text("[daemon\n")
    with pytest.raises(InvalidInput, match="cannot be read"):
        set_setting(home, "daemon.port", ["1"])
    assert text(home) == "[daemon\n"


def test_a_section_that_is_a_value_is_not_written_over(home: Home) -> None:
    home.config_file.write_text("daemon = 3\n")
    with pytest.raises(InvalidInput, match="must be a section"):
        set_setting(home, "daemon.port", ["1"])
    assert text(home) == "daemon = 3\n"


def test_a_key_that_is_removed_has_its_default_again(home: Home) -> None:
    assert unset_setting(home, "daemon.port")
    assert setting(home.settings(), "daemon.port").is_default
    assert "[daemon]  # at home" in text(home)


def test_what_is_no_setting_can_be_removed(home: Home) -> None:
    home.config_file.write_text("[daemon]\nprot = 1\n")
    assert unset_setting(home, "daemon.prot")
    assert home.settings() == Settings()


def test_removing_what_is_not_there_changes_nothing(home: Home) -> None:
    assert not unset_setting(home, "storage.durability")
    with pytest.raises(InvalidInput, match="there is no setting"):
        unset_setting(home, "storage.speed")
    assert text(home) == WRITTEN


def test_every_setting_is_named_once(home: Home) -> None:
    names = [each.name for each in all_settings(home.settings())]
    assert {"daemon.port", "session.backend", "vault.local-only"} <= set(names)
    assert len(names) == len(set(names))


def test_a_whole_file_is_taken_only_if_it_can_be_read(home: Home) -> None:
    for bad in ("[daemon\n", "[daemon]\nport = -1\n"):
        with pytest.raises(InvalidInput):
            replace_settings(home, bad)
    assert text(home) == WRITTEN
    assert replace_settings(home, "").daemon.port == 7836
    assert text(home) == ""
