"""Where a verb gets a passphrase from, and what it says where it gets none."""

from __future__ import annotations

from pathlib import Path

import pytest

from steno.cli.passphrases import passphrase_of
from steno.storage.errors import InvalidInput


def test_a_file_holds_the_passphrase_and_the_end_of_a_line(tmp_path: Path):
    file = tmp_path / "it"
    file.write_text("several words \r\n", encoding="utf-8")
    assert passphrase_of(file, confirm=False) == "several words "


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path):
    with pytest.raises(InvalidInput) as caught:
        passphrase_of(tmp_path / "it", confirm=False)
    assert caught.value.line.startswith(f"{tmp_path / 'it'} cannot be read (No such file or directory)")


def test_a_file_that_is_no_text_is_refused_and_nothing_of_it_is_repeated(tmp_path: Path):
    file = tmp_path / "it"
    file.write_bytes(b"secret\xf1\n")
    with pytest.raises(InvalidInput) as caught:
        passphrase_of(file, confirm=False)
    assert "0xf1" not in caught.value.line
    assert caught.value.__suppress_context__


def test_an_empty_passphrase_is_refused_and_says_how_to_give_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STENO_PASSPHRASE", "")
    with pytest.raises(InvalidInput, match="empty") as caught:
        passphrase_of(None, confirm=True)
    assert "STENO_PASSPHRASE" in caught.value.hint
