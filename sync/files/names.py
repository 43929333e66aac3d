"""The names of session files: given once (but for a purge), readable, and the same on every system.

A name never carries identity (the header does); it only has to be valid everywhere, to
be unlikely to meet another, and to survive any title and any id (tests/unit/test_files_names.py).
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from pathlib import PurePath

from ...storage.model import format_ms

SUFFIX = ".jsonl"

_SLUG_BYTES = 48
_HASH_CHARACTERS = 12
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WINDOWS = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9¹²³]")
_EDITORS_AND_SYNC_TOOLS = (".", "#", "~")
_WASTEBASKETS = {"#recycle", "@recycle", "$recycle.bin"}  # of file servers and Windows: what is moved there was deleted


def file_name(session: str, *, title: str, created_ms: int) -> str:
    """The path ``YYYY/MM/<slug>.<id>.jsonl`` of a new session's file; month in UTC, at most 200 bytes."""
    year, month, _ = format_ms(created_ms).split("-", 2)
    return f"{year}/{month}/{slug(title)}.{id_in_name(session)}{SUFFIX}"


def name_under_title(path: str, session: str, *, title: str) -> str:
    """The path that a session's file has under its present title; the same where its name is not one that we gave.

    A name that we gave is a slug and the id, and a number where it stood for another one; the folder stays.
    """
    folder, slash, name = path.rpartition("/")
    ours, now = id_in_name(session), slug(title)
    given = re.fullmatch(rf"([^.]+)\.{re.escape(ours)}(\.[0-9]+)?{re.escape(SUFFIX)}", name)
    if given is None or given[1] == now or not _is_slug(given[1]):
        return path
    return f"{folder}{slash}{now}.{ours}{SUFFIX}"


def id_in_name(session: str) -> str:
    """The id as it stands if it is plain, else its slug and 12 characters of its hash."""
    if _PLAIN_ID.fullmatch(session):
        return session
    digest = base64.b32encode(hashlib.sha256(session.encode()).digest()).decode().lower()
    return f"{slug(session)}-{digest[:_HASH_CHARACTERS]}"


def slug(text: str) -> str:
    """Letters and digits of any script, lower case, joined by hyphens: 1 to 48 bytes of UTF-8."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    words = "".join(map(_slug_character, folded)).split()
    cut = "-".join(words).encode()[:_SLUG_BYTES].decode(errors="ignore").strip("-_")
    if not cut:
        return "session"
    return f"{cut}-session" if _WINDOWS.fullmatch(cut) else cut


def is_session_file(name: str) -> bool:
    """Say whether a file name may be a session's: not one that editors, sync tools or we use on the way."""
    return name.endswith(SUFFIX) and len(name) > len(SUFFIX) and not name.startswith(_EDITORS_AND_SYNC_TOOLS)


def is_session_folder(name: str) -> bool:
    """Say whether a folder of this name may hold sessions' files: not a hidden one, no wastebasket."""
    return not name.startswith(".") and name.lower() not in _WASTEBASKETS


def is_session_path(relative: PurePath) -> bool:
    """Say whether a path below the directory may be a session's: by its name, and by the folders on the way to it."""
    return is_session_file(relative.name) and all(is_session_folder(part) for part in relative.parts[:-1])


def _is_slug(text: str) -> bool:
    return text == text.lower() and all(each == "-" or _slug_character(each) == each for each in text)


def _slug_character(character: str) -> str:
    kind = unicodedata.category(character)
    if kind[0] in "LNM" or character == "_":
        return character
    return "" if kind == "Cf" else " "
