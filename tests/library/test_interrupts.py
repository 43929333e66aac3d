"""Ctrl-C at any moment of a save: what was saved is there, what was not may be saved again, and no lock is left."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from steno import MemorySessionStore, SessionManager, SQLiteSessionStore
from steno.storage import database
from steno.storage.library import pool

PLACES = {database.__file__, pool.__file__}


def _interrupted(act: Callable[[], object], at: int) -> bool:
    """Do something, and interrupt it at so many steps through the code of `PLACES`; False where it ends before."""
    left = at

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in PLACES:
            return None if event == "call" else trace
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_save_that_is_interrupted_anywhere_leaves_no_lock_and_can_be_repeated(tmp_path: Path):
    other = SessionManager(store=SQLiteSessionStore(tmp_path / "s.db"))
    other.create_session(session_id="one")
    steps = 0
    for steps in range(10_000):
        with SessionManager(store=SQLiteSessionStore(tmp_path / "s.db")) as manager:
            session = manager.get_session("one")
            assert session is not None
            session.add_message("user", str(steps))
            interrupted = _interrupted(partial(manager.save, session), steps)
            other.add_message("two", "user", str(steps))
            manager.save(session)
        if not interrupted:
            break
    numbers = [str(number) for number in range(steps + 1)]
    assert [message["content"] for message in other.get_messages("one")] == numbers
    assert [message["content"] for message in other.get_messages("two")] == numbers


def test_an_interrupted_save_loses_nothing_that_is_in_memory():
    for steps in range(10_000):
        with SessionManager(store=MemorySessionStore()) as manager:
            session = manager.create_session(session_id="one")
            session.add_message("user", "First.")
            manager.save(session)
            session.add_message("user", "Second.")
            interrupted = _interrupted(partial(manager.save, session), steps)
            manager.save(session)
            assert [message["content"] for message in manager.get_messages("one")] == ["First.", "Second."]
        if not interrupted:
            break
