"""The public library: what it exports, and that looking for it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import steno


def test_the_public_names_are_these():
    assert sorted(steno.__all__) == [
        "AmbiguousRef",
        "Checkpoint",
        "InvalidInput",
        "Limits",
        "LocalStorageError",
        "MemorySessionStore",
        "Message",
        "MessageDict",
        "MessageNotFound",
        "MessagePurged",
        "MissingDriver",
        "PostgresSessionStore",
        "RedisSessionStore",
        "SQLiteSessionStore",
        "Selection",
        "Session",
        "SessionDeleted",
        "SessionError",
        "SessionExists",
        "SessionManager",
        "SessionNotFound",
        "SessionNotFoundError",
        "SessionStore",
        "SessionTooLarge",
        "StenoError",
        "StoreDamaged",
        "StoreRefused",
        "StoreUnreachable",
        "TargetExists",
        "Template",
        "Unsupported",
        "User",
        "__version__",
        "store_from_environment",
    ]


def test_every_public_name_is_there():
    assert all(hasattr(steno, name) for name in steno.__all__)


def test_a_name_that_is_not_public_is_no_attribute():
    assert not hasattr(steno, "Nothing")


def test_importing_steno_imports_none_of_its_parts():
    code = "import sys, steno; print([name for name in sys.modules if name.startswith('steno.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
