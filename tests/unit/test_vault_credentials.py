"""What a service must know besides its address, where it stands in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backends.fail import Keyring as NoKeyring

from steno.storage.errors import InvalidInput
from steno.storage.home import Home
from steno.sync.vault.credentials import credentials, keep_credentials, places
from steno.sync.vault.remote import open_remote
from steno.sync.vault.system_keyring import KeyringUnavailable
from steno.tests.e2e.file_keyring import FileKeyring


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, tmp_path)


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of the keyring."""
    folder = tmp_path / "keyring"
    folder.mkdir()
    monkeypatch.setenv("STENO_TEST_KEYRING", str(folder))
    before = keyring.get_keyring()
    keyring.set_keyring(FileKeyring())
    yield folder
    keyring.set_keyring(before)


def moved(home: Home, place: str) -> None:
    keep_credentials(home, in_keyring=place == "keyring", lock=nullcontext)


def written(home: Home, text: str, *, mode: int = 0o600) -> None:
    home.credentials_file.write_text(text, encoding="utf-8")
    home.credentials_file.chmod(mode)


def test_without_a_file_it_is_the_environment(home: Home) -> None:
    assert credentials(home, environ={"STENO_S3_REGION": "x"}) == {"STENO_S3_REGION": "x"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("STENO_S3_KEY=plain/+=#1", "plain/+=#1"),
        ('STENO_S3_KEY="two words"', "two words"),
        ("STENO_S3_KEY='a \"quote\"'", 'a "quote"'),
        ("export STENO_S3_KEY=x", "x"),
        ("  STENO_S3_KEY=x  ", "x"),
        ("STENO_S3_KEY=", ""),
        ('# of the shop\n\nSTENO_S3_KEY=""', ""),
    ],
)
def test_a_line_of_the_file_is_a_variable(home: Home, line: str, value: str) -> None:
    written(home, f"{line}\n")
    assert credentials(home, environ={}) == {"STENO_S3_KEY": value}


def test_what_the_environment_says_counts(home: Home) -> None:
    written(home, "STENO_S3_KEY=file\nSTENO_S3_REGION=file\n")
    assert credentials(home, environ={"STENO_S3_KEY": "said"}) == {"STENO_S3_KEY": "said", "STENO_S3_REGION": "file"}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_may_read_is_refused(home: Home, mode: int) -> None:
    written(home, "STENO_S3_KEY=hunter2\n", mode=mode)
    with pytest.raises(InvalidInput) as caught:
        credentials(home, environ={})
    assert f"chmod 600 {home.credentials_file}" in caught.value.line


@pytest.mark.parametrize(
    "text",
    ["hunter2", "PASSWORD=hunter2", 'STENO_S3_KEY="hunter2', "STENO_S3_KEY=hunter2 more", "STENO_S3_KEY hunter2"],
)
def test_a_line_that_is_no_variable_is_named_and_not_repeated(home: Home, text: str) -> None:
    written(home, f"# first\n{text}\n")
    with pytest.raises(InvalidInput, match="line 2 of") as caught:
        credentials(home, environ={})
    assert "hunter2" not in caught.value.line


def test_a_file_that_is_no_text_is_refused_and_not_repeated(home: Home) -> None:
    home.credentials_file.write_bytes(b"STENO_S3_KEY=hunter2\xff\n")
    home.credentials_file.chmod(0o600)
    with pytest.raises(InvalidInput) as caught:
        credentials(home, environ={})
    assert "hunter2" not in caught.value.line
    assert caught.value.__cause__ is None


def test_a_remote_takes_its_credentials_from_the_file_of_the_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STENO_HOME", str(home.data))
    monkeypatch.delenv("STENO_REDIS_PASSWORD", raising=False)
    written(home, "STENO_REDIS_PASSWORD=hunter2\n")
    remote: Any = open_remote("redis://h")
    assert remote._client.connection_pool.connection_kwargs["password"] == "hunter2"


# In the keyring


VALUES = {
    "STENO_S3_KEY": "hunter2",
    "STENO_S3_WORDS": 'two "words"',
    "STENO_S3_OTHER": "it's",
    "STENO_S3_BOTH": "x'\"y",
    "STENO_S3_NONE": "",
}
TEXT = """# of the shop
STENO_S3_KEY=hunter2
STENO_S3_WORDS='two "words"'
STENO_S3_OTHER="it's"
STENO_S3_BOTH=x'"y
STENO_S3_NONE=
"""


def test_what_is_in_the_keyring_is_used_and_no_longer_in_the_file(home: Home, entries: Path) -> None:
    written(home, TEXT)
    moved(home, "keyring")
    assert credentials(home, environ={}) == VALUES
    assert "hunter2" not in home.credentials_file.read_text(encoding="utf-8")
    assert home.credentials_file.stat().st_mode & 0o777 == 0o600
    assert "hunter2" in next(entries.iterdir()).read_text(encoding="utf-8")


def test_it_comes_back_as_it_was_and_the_keyring_is_left_empty(home: Home, entries: Path) -> None:
    written(home, TEXT)
    moved(home, "keyring")
    moved(home, "file")
    assert credentials(home, environ={}) == VALUES
    assert home.credentials_file.read_text(encoding="utf-8").startswith("# of the shop\n")
    assert list(entries.iterdir()) == []


def test_what_is_written_into_the_file_later_counts_and_is_moved_too(home: Home, entries: Path) -> None:
    written(home, TEXT)
    moved(home, "keyring")
    text = home.credentials_file.read_text(encoding="utf-8")
    written(home, f"{text}STENO_S3_KEY=changed\n")
    assert credentials(home, environ={}) == {**VALUES, "STENO_S3_KEY": "changed"}
    moved(home, "keyring")
    assert credentials(home, environ={}) == {**VALUES, "STENO_S3_KEY": "changed"}
    assert len(list(entries.iterdir())) == 1


def test_where_each_stands_is_told_and_not_what_it_is(home: Home, entries: Path) -> None:
    written(home, TEXT)
    moved(home, "keyring")
    text = home.credentials_file.read_text(encoding="utf-8")
    written(home, f"{text}STENO_S3_KEY=changed\n")
    assert places(home, environ={"STENO_S3_NONE": "x", "STENO_HOME": "y"}) == {
        "STENO_S3_KEY": "file",
        **dict.fromkeys(("STENO_S3_WORDS", "STENO_S3_OTHER", "STENO_S3_BOTH"), "keyring"),
        "STENO_S3_NONE": "environment",
    }


def test_where_the_keyring_cannot_be_used_the_file_stays_as_it_is(home: Home, entries: Path) -> None:
    keyring.set_keyring(NoKeyring())
    written(home, TEXT)
    with pytest.raises(KeyringUnavailable):
        moved(home, "keyring")
    assert home.credentials_file.read_text(encoding="utf-8") == TEXT


def test_a_keyring_that_is_locked_is_said_with_what_to_do(home: Home, entries: Path) -> None:
    written(home, TEXT)
    moved(home, "keyring")
    entries.rename(entries.with_name("locked"))
    with pytest.raises(KeyringUnavailable) as caught:
        credentials(home, environ={})
    assert str(home.credentials_file) in caught.value.line


@pytest.mark.parametrize("content", ["", "hunter2", "[]", '{"STENO_S3_KEY":7}'])
def test_an_entry_that_is_none_of_ours_is_said_and_not_quoted(home: Home, entries: Path, content: str) -> None:
    written(home, TEXT)
    moved(home, "keyring")
    next(entries.iterdir()).write_text(content, encoding="utf-8")
    with pytest.raises(KeyringUnavailable) as caught:
        credentials(home, environ={})
    assert "hunter2" not in caught.value.line


def test_without_a_file_there_is_nothing_to_move(home: Home, entries: Path) -> None:
    with pytest.raises(InvalidInput, match="no credentials"):
        moved(home, "keyring")
