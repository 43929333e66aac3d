"""Taking in what this program exported: besides what other tools know, its own fields return.

They are written only with the session itself: one that is here already is brought up to the file's
messages like any other transcript, and keeps its own state (tests/unit/test_transcript_steno_json.py).
"""

from __future__ import annotations

from .edit import Edit
from .importing import Imported, take_in
from .registers import text_of
from .stamps import DERIVED
from .state import touch
from .store import Store
from .transcripts.steno_json import Exported


def bring_back(store: Store, exported: Exported) -> Imported:
    """Bring a session up to an export of it, all or nothing; raises `InvalidInput`."""
    with store.transaction():
        done = take_in(store, exported)
        if done.created:
            _settle(store, exported)
        return done


def _settle(store: Store, exported: Exported) -> None:
    row = store.find(exported.id)
    if row is None:
        return
    edit = Edit(store, row, rank=DERIVED)
    if exported.status != "active":
        edit.set("status", text_of(exported.status))
    if exported.user_id is not None:
        edit.set("user_id", text_of(exported.user_id))
    edit.set_document("state", exported.state)
    edit.finish(touched_ms=exported.updated_ms)
    touch(store, row.no, exported.updated_ms)
