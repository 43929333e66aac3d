from __future__ import annotations

import sys
from pathlib import Path

import pytest

from steno.storage.errors import InvalidInput
from steno.sync.vault import kdf
from steno.sync.vault.kdf import MINIMUM_COST, KdfCost, KdfFailed, derive, derive_in_child

SALT = bytes(range(16))


def test_the_child_derives_what_this_process_would():
    assert derive_in_child("correct horse", SALT, MINIMUM_COST) == derive("correct horse", SALT, MINIMUM_COST)


def test_the_key_of_a_passphrase_never_changes():
    assert (
        derive("correct horse", SALT, KdfCost(memory_kib=64, iterations=2, lanes=2)).hex()
        == "25a70f2cbb5e0dbeb50ebc737959ede1c4a78b86962931bf8ac82e63dd81eaa2"
    )


def test_an_accent_counts_the_same_however_it_was_typed():
    assert derive("caf\u00e9", SALT, MINIMUM_COST) == derive("cafe\u0301", SALT, MINIMUM_COST)


@pytest.mark.parametrize("passphrase", ["", "\udc80"])
def test_what_is_no_passphrase_is_refused_before_a_process_is_started(passphrase: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with pytest.raises(InvalidInput):
        derive_in_child(passphrase, SALT, MINIMUM_COST)


@pytest.mark.parametrize(
    ("memory_kib", "iterations", "lanes"),
    [(2**20 + 1, 1, 1), (7, 1, 1), (8, 0, 1), (8, 21, 1), (8, 1, 0), (256, 1, 17), (31, 1, 4), (-8, 1, 1)],
)
def test_a_cost_out_of_bounds_is_refused(memory_kib: int, iterations: int, lanes: int):
    with pytest.raises(InvalidInput):
        KdfCost(memory_kib=memory_kib, iterations=iterations, lanes=lanes)


def test_the_child_imports_nothing_from_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "msgspec.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    assert derive_in_child("correct horse", SALT, MINIMUM_COST) == derive("correct horse", SALT, MINIMUM_COST)


def test_a_child_that_dies_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\ncat >/dev/null\necho one >&2\necho 'no memory' >&2\nexit 3\n")
    dying.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(dying))
    with pytest.raises(KdfFailed, match=r"no memory") as caught:
        derive_in_child("correct horse", SALT, MINIMUM_COST)
    assert "\n" not in caught.value.line


def test_the_passphrase_is_not_among_the_childs_arguments_or_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spy = tmp_path / "python"
    spy.write_text(f'#!/bin/sh\n(echo "$@"; env) > {tmp_path}/seen\nexec {sys.executable} "$@"\n')
    spy.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(spy))
    kdf.derive_in_child("correct horse", SALT, MINIMUM_COST)
    assert "correct horse" not in (tmp_path / "seen").read_text()
