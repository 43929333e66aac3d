"""Ctrl-C at any moment of a save: what was saved is there, what was not may be saved again, and no lock is left behind."""

from __future__ import annotations

import sys
from collections.abc import Callable
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
    manager = SessionManager(store=SQLiteSessionStore(tmp_path / "s.db"))
    other = SessionManager(store=SQLiteSessionStore(tmp_path / "s.db"))
    session = manager.create_session(session_id="one")
    steps = 0
    while True:
        session.add_message("user", str(steps))
        interrupted = _interrupted(lambda: manager.save(session), steps)
        other.add_message("two", "user", str(steps))
        manager.save(session)
        if not interrupted:
            break
        steps += 1
    assert steps > 20
    numbers = [str(number) for number in range(steps + 1)]
    assert [message["content"] for message in other.get_messages("one")] == numbers
    assert [message["content"] for message in manager.get_messages("two")] == numbers


def test_an_interrupted_save_does_not_lose_what_is_in_memory():
    manager = SessionManager(store=MemorySessionStore())
    session = manager.create_session(session_id="one")
    steps = 0
    while True:
        session.add_message("user", str(steps))
        interrupted = _interrupted(lambda: manager.save(session), steps)
        manager.save(session)
        if not interrupted:
            break
        steps += 1
    assert [message["content"] for message in manager.get_messages("one")] == [str(each) for each in range(steps + 1)]
