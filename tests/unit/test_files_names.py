from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.sync.files.names import (
    file_name,
    id_in_name,
    is_session_file,
    is_session_path,
    name_under_title,
    slug,
)

NOVEMBER_2026_MS = 1_795_600_000_000


def test_a_name_shows_month_title_and_id() -> None:
    name = file_name("k3v9x0a1b2c4", title="REST API: How?", created_ms=NOVEMBER_2026_MS)
    assert name == "2026/11/rest-api-how.k3v9x0a1b2c4.jsonl"


def test_the_month_is_that_of_utc() -> None:
    assert file_name("x", title="t", created_ms=0).startswith("1970/01/")
    assert file_name("x", title="t", created_ms=2_678_400_000 - 1).startswith("1970/01/")
    assert file_name("x", title="t", created_ms=2_678_400_000).startswith("1970/02/")


def test_an_id_that_no_file_name_can_hold_gets_a_slug_and_a_hash() -> None:
    one, other = id_in_name("../../etc/passwd"), id_in_name("../../etc:passwd")
    assert one.startswith("etc-passwd-")
    assert len(one) == len("etc-passwd-") + 12
    assert one != other


def test_a_plain_id_stands_as_it_is() -> None:
    assert id_in_name("Abc_-9") == "Abc_-9"


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Grüße  an   Zoë", "grüße-an-zoë"),
        ("日本語の 題名", "日本語の-題名"),
        ("", "session"),
        ("!!! ???", "session"),
        ("CON", "con-session"),
        ("com1", "com1-session"),
        ("-rf --no-preserve", "rf-no-preserve"),
        ("a/b\\c:d", "a-b-c-d"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe", "gpj-exe"),
        ("हिन्दी", "हिन्दी"),
    ],
)
def test_a_slug_is_safe_and_readable(title: str, expected: str) -> None:
    assert slug(title) == expected


@given(st.text(), st.text(min_size=1, max_size=300).filter(lambda text: text.isprintable()))
def test_any_title_and_id_give_one_safe_name_of_at_most_200_bytes(title: str, session: str) -> None:
    year, month, name = file_name(session, title=title, created_ms=NOVEMBER_2026_MS).split("/")
    assert (year, month) == ("2026", "11")
    assert len(name.encode()) <= 200
    assert not set(name) & set('<>:"|?*\\\0\n\r\t')
    assert is_session_file(name)


@pytest.mark.parametrize(
    "name",
    [
        ".#x.jsonl", "#x.jsonl#", "x.jsonl~", "x.jsonl.~1~",  # emacs
        ".x.jsonl.swp", ".x.jsonl.swo", ".x.jsonl.un~", "4913", "5036", "x.jsonl.orig",  # vim
        "x.jsonl.save", "x.jsonl.save.1",  # nano
        "x.jsonl.bak", "x.jsonl.tmp", "x.jsonl.part", "x.jsonl.old", "x.jsonl.rej",  # many
        "x.jsonl___jb_tmp___", "x.jsonl___jb_old___",  # JetBrains
        "x.jsonl.vsctmp", "x.jsonl.crswap",  # VS Code, Chrome
        ".x.jsonl.kate-swp", "x.jsonl.Ab12Cd",  # Kate
        ".goutputstream-AB12C3",  # gedit
        ".~lock.x.jsonl", ".~lock.x.jsonl#", "~$x.jsonl", "~WRL0001.tmp", "x~RF1a2b3c.TMP",  # office programs
        "sedAbC123", ".x.jsonl.AbC123",  # sed -i, rsync
        ".syncthing.x.jsonl", ".syncthing.x.jsonl.tmp", "~syncthing~x.jsonl", "~syncthing~x.jsonl.tmp",  # Syncthing
        ".~x.jsonl", ".dropbox.attr", "x.jsonl.sb-1a2b3c-Xy",  # Dropbox, macOS
        "._x.jsonl", ".x.jsonl.icloud", ".nfs000000000001", ".fuse_hidden0001",  # file systems
        ".jsonl", "notes.txt", ".steno-0a1b2c.x.jsonl.swap",  # others
    ],
)  # fmt: skip
def test_what_editors_and_sync_tools_leave_is_no_session(name: str) -> None:
    assert not is_session_file(name)


@pytest.mark.parametrize("name", ["rest-api.k3v9x0a1b2c4.jsonl", "My own name.jsonl", "x~1.jsonl", "名.jsonl"])
def test_a_file_that_a_person_named_is_a_session(name: str) -> None:
    assert is_session_file(name)


@pytest.mark.parametrize(
    "name",
    [
        "x (conflicted copy 2026-11-20).jsonl",
        "x (Zoë's conflicted copy 2026-11-20).jsonl",
        "x.sync-conflict-20261120-101112-ABCDEFG.jsonl",
        "x (copy).jsonl",
        "x copy.jsonl",
        "Copy of x.jsonl",
    ],
)
def test_a_copy_that_a_sync_tool_or_a_file_manager_made_is_a_session(name: str) -> None:
    assert is_session_file(name)


def test_a_file_in_a_folder_of_any_name_is_a_session() -> None:
    assert is_session_path(PurePosixPath("2026/11/x.jsonl"))
    assert is_session_path(PurePosixPath("projects/#1 ~basket/x.jsonl"))


@pytest.mark.parametrize(
    "folder",
    [".stversions", ".dropbox.cache/2026-11-20", ".git", ".rsync-partial", ".~tmp~", ".Trash-1000/files"],
)
def test_a_file_in_a_hidden_folder_is_no_session(folder: str) -> None:
    assert not is_session_path(PurePosixPath(folder, "2026/11/x.jsonl"))


@pytest.mark.parametrize("folder", ["#recycle", "@Recycle", "$RECYCLE.BIN/S-1-5-21"])
def test_a_file_that_a_server_threw_into_its_wastebasket_is_no_session(folder: str) -> None:
    assert not is_session_path(PurePosixPath(folder, "2026/11/x.jsonl"))


@given(st.text(max_size=80), st.text(max_size=80), st.text(min_size=1, max_size=80), st.sampled_from(["", ".2", ".17"]))
def test_a_name_that_was_given_is_known_and_changes_with_the_title(before: str, after: str, session: str, number: str):
    given_ = file_name(session, title=before, created_ms=0).removesuffix(".jsonl") + number + ".jsonl"
    same = slug(before) == slug(after)
    wanted = given_ if same else file_name(session, title=after, created_ms=0)
    assert name_under_title(given_, session, title=after) == wanted


@pytest.mark.parametrize(
    "name",
    ["mine.jsonl", "My notes.k3.jsonl", "Mine.k3.jsonl", "mine.other.jsonl", "a.b.k3.jsonl", "mine.k3.old.jsonl"],
)
def test_a_name_that_somebody_chose_stays(name: str):
    assert name_under_title(f"some/where/{name}", "k3", title="New") == f"some/where/{name}"


def test_a_file_that_was_moved_keeps_its_folder():
    assert name_under_title("a/old.k3.jsonl", "k3", title="New") == "a/new.k3.jsonl"
    assert name_under_title("old.k3.jsonl", "k3", title="New") == "new.k3.jsonl"
