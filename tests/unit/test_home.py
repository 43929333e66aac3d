"""A home is for its owner only, and settings that are wrong are named."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.errors import InvalidInput, LocalStorageError, NoHome
from steno.storage.home import Home, private_directory, write_private
from steno.storage.settings import Settings
from steno.storage.store import Store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("STENO_HOME", str(tmp_path / "home"))
    return Home.from_environment()


@pytest.fixture
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


# Where it is


def test_one_directory_holds_everything_where_it_is_named(home: Home, tmp_path: Path):
    places = {path for path in vars(home).values() if isinstance(path, Path)}
    assert {path for path in places if not path.is_relative_to(tmp_path / "home")} == set()


def test_a_relative_home_is_where_the_process_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STENO_HOME", "here")
    monkeypatch.chdir(tmp_path)
    assert Home.from_environment().data == tmp_path / "here"


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="XDG directories are those of Linux")
def test_the_xdg_directories_hold_data_and_settings_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("STENO_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home = Home.from_environment()
    assert (home.data, home.config_file) == (tmp_path / "data/steno", tmp_path / "config/steno/config.toml")


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="XDG directories are those of Linux")
@pytest.mark.parametrize("value", ["", "relative/place"])
def test_xdg_directories_that_are_not_absolute_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.delenv("STENO_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", value)
    assert Home.from_environment().data == tmp_path / ".local/share/steno"


def test_a_home_without_a_store_says_what_to_do(home: Home):
    with pytest.raises(NoHome) as caught:
        home.require()
    assert "steno init" in caught.value.line


def test_a_home_that_lost_its_store_says_where_it_is_made_anew_from(home: Home):
    home.make()
    home.vault_file.write_text("{}")
    with pytest.raises(NoHome) as caught:
        home.require()
    assert "belongs to a vault: `steno doctor --rebuild` makes it anew from the remote" in caught.value.line
    (home.sessions / "a.jsonl").write_text("a")
    with pytest.raises(NoHome) as caught:
        home.require()
    assert "`steno doctor --rebuild` makes it anew from them" in caught.value.line


def test_a_home_with_a_store_is_one(home: Home):
    home.make()
    with Store(home.database):
        home.require()
    assert home.exists


# Permissions


@pytest.mark.usefixtures("_open_umask")
def test_a_home_is_for_its_owner_only(home: Home):
    home.make()
    with Store(home.database) as store:
        store.create(id="s")
        found = {home.data, *home.data.rglob("*")}
        assert {_mode(path) for path in found if path.is_dir()} == {0o700}
        assert {_mode(path) for path in found if path.is_file()} == {0o600}


def test_a_home_that_is_made_twice_stays_as_it_is(home: Home):
    home.make()
    (home.sessions / "kept.jsonl").write_text("a")
    home.make()
    assert (home.sessions / "kept.jsonl").read_text() == "a"


@pytest.mark.usefixtures("_open_umask")
def test_directories_that_were_missing_above_are_for_their_owner_too(tmp_path: Path):
    private_directory(tmp_path / "a" / "b" / "c")
    assert {_mode(tmp_path / part) for part in ("a", "a/b", "a/b/c")} == {0o700}


def test_a_directory_in_the_place_of_a_file_is_reported(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(LocalStorageError, match="cannot be made"):
        private_directory(tmp_path / "file" / "below")


# Small files


@pytest.mark.usefixtures("_open_umask")
def test_a_small_file_is_for_its_owner_only(tmp_path: Path):
    write_private(tmp_path / "token", b"secret")
    assert _mode(tmp_path / "token") == 0o600


@pytest.mark.usefixtures("_open_umask")
def test_a_file_that_was_open_to_all_is_for_its_owner_once_it_is_replaced(tmp_path: Path):
    (tmp_path / "token").write_bytes(b"old")
    write_private(tmp_path / "token", b"secret")
    assert _mode(tmp_path / "token") == 0o600


def test_a_small_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path):
    write_private(tmp_path / "token", b"a long secret")
    write_private(tmp_path / "token", b"short")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"token": b"short"}


def test_a_small_file_that_cannot_be_written_is_reported(tmp_path: Path):
    with pytest.raises(LocalStorageError, match="cannot be written"):
        write_private(tmp_path / "missing" / "token", b"secret")


@pytest.mark.fault(31)
def test_a_small_file_that_the_disk_takes_only_in_part_leaves_the_former_one(tmp_path: Path):
    write_private(tmp_path / "vault.json", b"the keys")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(LocalStorageError, match="cannot be written"):
            write_private(tmp_path / "vault.json", b"k" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"vault.json": b"the keys"}


# Settings


def _configure(home: Home, text: str) -> None:
    home.make()
    home.config_file.write_text(text, encoding="utf-8")


def test_settings_that_nobody_wrote_are_the_defaults(home: Home):
    assert home.settings() == Settings()
    assert (home.settings().daemon.port, home.settings().storage.durability) == (7836, "normal")


@pytest.mark.check("COD-16")
def test_settings_are_what_the_file_says(home: Home):
    _configure(home, '[daemon]\nport = 0\n[storage]\ndurability = "full"\n[session]\nautosave_interval = 7\n')
    found = home.settings()
    assert (found.daemon.port, found.storage.durability, found.session.autosave_interval) == (0, "full", 7)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[daemon]\nprot = 1\n", "prot"),
        ("[deamon]\nport = 1\n", "deamon"),
        ('[daemon]\nport = "7836"\n', "[daemon] port"),
        ("[daemon]\nport = 70000\n", "[daemon] port"),
        ("[daemon]\nport = -1\n", "[daemon] port"),
        ("[storage]\ndurability = true\n", "[storage] durability"),
        ('[storage]\ndurability = "ful"\n', "[storage] durability"),
        ("daemon = 7\n", "daemon"),
        (f"daemon = {'[' * 20_000}{']' * 20_000}\n", "config.toml"),
    ],
)
def test_a_setting_that_is_wrong_is_named(home: Home, text: str, key: str):
    _configure(home, text)
    with pytest.raises(InvalidInput) as caught:
        home.settings()
    assert key in caught.value.line
    assert str(home.config_file) in caught.value.line


def test_settings_that_are_no_toml_are_refused_with_the_line(home: Home):
    _configure(home, "[daemon]\nport = \n")
    with pytest.raises(InvalidInput, match="line 2"):
        home.settings()


def test_settings_that_are_no_text_are_refused(home: Home):
    home.make()
    home.config_file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="cannot be read"):
        home.settings()
