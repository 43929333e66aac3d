"""The rules of the vault, each of them broken on purpose: the simulation must say so, or it shows nothing.

A mutant breaks one rule in the module that keeps it. `MUTANTS` names with each the first seed whose schedule shows it,
and what is said then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from steno.storage import apply as applying
from steno.storage.edit import Edit
from steno.storage.errors import InvalidInput
from steno.storage.registers import Register
from steno.storage.store import Store
from steno.sync.files import absorb
from steno.sync.vault import healing, lease, pulling, rewriting, segment
from steno.sync.vault.healing import Healer
from steno.sync.vault.identity import Verdict
from steno.sync.vault.intake import Intake
from steno.sync.vault.ledger import Ledger
from steno.sync.vault.names import SegmentName
from steno.sync.vault.own_log import OwnLog
from steno.sync.vault.peers import Peers
from steno.sync.vault.pulling import Puller
from steno.sync.vault.revoked import Revocations
from steno.sync.vault.rewriting import Rewriter

Patch = pytest.MonkeyPatch


class Mutant(NamedTuple):
    """A broken rule: ``seed`` is the first that shows it, and ``says`` stands in what is said then."""

    breaks: Callable[[Patch], None]
    seed: int
    says: str

    @property
    def name(self) -> str:
        return self.breaks.__name__


# Merging


def a_value_that_is_there_stays(patch: Patch) -> None:
    """Of two values the one that came first is kept."""
    real = applying.merge
    patch.setattr(applying, "merge", lambda ours, theirs: ours if ours.open else real(ours, theirs))


def what_was_known_is_forgotten(patch: Patch) -> None:
    """A merge keeps the open values alone: what was overwritten comes back."""
    real = applying.merge
    patch.setattr(applying, "merge", lambda ours, theirs: Register(real(ours, theirs).open, {}))


def a_deletion_knows_what_lies_in_a_hole(patch: Patch) -> None:
    """Whoever deletes is taken to have seen all up to the newest that was seen."""
    patch.setattr(Store, "_gapless", lambda *_: {})


_RECORD = Ledger.record

# Pulling


def a_hole_is_taken_to_be_there(patch: Patch) -> None:
    """Whoever has a publication is taken to have all before it."""

    def record(ledger: Ledger, name: SegmentName, *, gapless_clock: int) -> None:
        _RECORD(ledger, msgspec.structs.replace(name, first=1), gapless_clock=gapless_clock)

    patch.setattr(Ledger, "record", record)


def holes_are_not_told(patch: Patch) -> None:
    """Somebody who lacks something is told that all is done."""
    patch.setattr(pulling, "problems_of", lambda _: [])


def what_does_not_open_is_forgotten(patch: Patch) -> None:
    """An object that does not open is nobody's problem."""
    patch.setattr(Ledger, "problems", lambda _: [])


# Pushing


def what_waits_is_forgotten(patch: Patch) -> None:
    """What was not acknowledged is not sent again."""
    patch.setattr(OwnLog, "pending", lambda _: [])
    patch.setattr(OwnLog, "pending_names", lambda _: set())


def an_intent_is_not_kept(patch: Patch) -> None:
    """A number is taken and the bytes under it are nowhere."""
    real = OwnLog.move

    def move(log: OwnLog, seq: int, **options: Any) -> None:
        with log.store.transaction():
            real(log, seq, **options)
            log.store.execute("UPDATE outbox SET sealed = x''")

    patch.setattr(OwnLog, "move", move)


def contents_are_not_sealed(patch: Patch) -> None:
    """The remote is shown what was written."""
    real = segment.seal
    patch.setattr(segment, "pack", lambda content, **_: content)
    patch.setattr(segment, "seal", lambda plain, **options: real(plain, **options) + plain)


# Rewriting


def compaction_drops_a_birth(patch: Patch) -> None:
    """Of what is written again the last message is left out."""
    real = rewriting.combine

    def combine(batches: Any, gone: Any) -> Any:
        whole = real(batches, gone)
        born = [change for change in whole.sessions if change.messages]
        if len(batches) > 1 and born:
            born[-1].messages.pop()
        return whole

    patch.setattr(rewriting, "combine", combine)


def compaction_forgets_what_it_stands_for(patch: Patch) -> None:
    """What was healed is a hole again when it is written again."""
    real = rewriting.combine
    patch.setattr(
        rewriting, "combine", lambda batches, gone: msgspec.structs.replace(real(batches, gone), stands_for={})
    )


def compaction_leaves_out_the_first(patch: Patch) -> None:
    """One that stands for several holds all but the first of them."""
    real = rewriting.combine
    patch.setattr(rewriting, "combine", lambda batches, gone: real(batches[1:] or batches, gone))


def purges_are_not_scrubbed(patch: Patch) -> None:
    """What was purged stays on the remote."""

    async def scrub(_: Rewriter) -> list[str]:
        return []

    patch.setattr(Rewriter, "scrub", scrub)


# Healing


def what_stood_for_others_is_not_healed_with_it(patch: Patch) -> None:
    """What a lost segment stood for is lost with it."""
    real = Healer._missing

    def missing(healer: Healer, *given: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(healer._ledger, "healed", list)
            return real(healer, *given)

    patch.setattr(Healer, "_missing", missing)


def healing_tells_nothing(patch: Patch) -> None:
    """What heals stands for what was lost and says nothing of it."""
    patch.setattr(healing, "known_to", lambda *_: [])


def a_loss_is_obeyed(patch: Patch) -> None:
    """What the remote lost is taken to be gone for good."""

    async def heal(*_: Any, **__: Any) -> None:
        pass

    patch.setattr(Puller, "heal", heal)


# Identity


def strange_objects_are_taken_for_ours(patch: Patch) -> None:
    """A home that was copied goes on under the id of the other one."""
    patch.setattr(lease, "decide", lambda _, have, **__: Verdict("same", have.last))


# Versions


def what_a_later_version_wrote_is_read(patch: Patch) -> None:
    """Of what a later version wrote all that is known here is taken, and written again."""
    patch.setattr(segment, "VERSION", 255)


def a_least_version_is_not_heeded(patch: Patch) -> None:
    """Who is told that a later version is needed goes on writing."""
    patch.setattr(Peers, "needed", lambda _: 0)


def what_was_set_aside_stays_there(patch: Patch) -> None:
    """What did not open is not tried again, whoever may read it by now."""
    patch.setattr(Intake, "due", lambda _, name, aside: name not in aside)


def what_is_not_known_is_left_out(patch: Patch) -> None:
    """A register that only a later version knows of is not taken in."""
    real = applying._register

    def register(database: Any, state: Any, authors: Any) -> Register:
        if state.path == "later":
            raise InvalidInput("a register that nobody knows")
        return real(database, state, authors)

    patch.setattr(applying, "_register", register)


# Files


def a_save_replaces_what_its_writer_never_saw(patch: Patch) -> None:
    """Whoever saves a file is taken to have seen what its session says by now."""
    patch.setattr(absorb, "Edit", lambda store, row, **_: Edit(store, row))


def a_save_notes_nothing_as_known(patch: Patch) -> None:
    """What was edited in a file replaces nothing: what it said before stands beside it."""
    patch.setattr(absorb, "Edit", lambda store, row, **_: Edit(store, row, base=lambda *_: {}))


def a_save_is_not_remembered(patch: Patch) -> None:
    """What was taken before the file was written anew is taken again."""
    patch.setattr(absorb, "keep_save", lambda *_: None)


def a_file_that_is_gone_takes_all_with_it(patch: Patch) -> None:
    """Whoever removes a file is taken to have seen what its session says by now."""
    real = Store.delete
    patch.setattr(Store, "delete", lambda store, session, **_: real(store, session))


# Revoking


def what_comes_under_a_revoked_key_counts(patch: Patch) -> None:
    """Whoever was shut out is heard as before."""
    patch.setattr(Revocations, "check", lambda *_: None)


def who_was_shut_out_goes_on_sending(patch: Patch) -> None:
    """What was told of a revocation is not heeded."""
    patch.setattr(Revocations, "is_superseded", lambda _: False)


def what_a_former_key_seals_stays_so(patch: Patch) -> None:
    """Whoever joins again does not seal anew what it had sent."""

    async def seal_anew(*_: Any) -> None:
        pass

    patch.setattr(Rewriter, "_seal_anew", seal_anew)


def any_vault_is_ours(patch: Patch) -> None:
    """Whatever vault stands at the address is taken for ours."""

    async def verify(*_: Any, **__: Any) -> None:
        pass

    patch.setattr(Puller, "verify", verify)


MUTANTS = [
    Mutant(a_value_that_is_there_stays, 4, "devices differ"),
    Mutant(what_was_known_is_forgotten, 4, "devices differ"),
    Mutant(a_hole_is_taken_to_be_there, 0, "reading an append costs more"),
    Mutant(holes_are_not_told, 15, "is told done and lacks"),
    Mutant(what_does_not_open_is_forgotten, 5, "is told done and has not"),
    Mutant(what_waits_is_forgotten, 10, "they do not come to rest"),
    Mutant(an_intent_is_not_kept, 0, "they do not come to rest"),
    Mutant(contents_are_not_sealed, 0, "plaintext in"),
    Mutant(compaction_drops_a_birth, 4, "a fresh device differs"),
    Mutant(compaction_forgets_what_it_stands_for, 5, "is told done and the remote lacks"),
    Mutant(compaction_leaves_out_the_first, 4, "a fresh device differs"),
    Mutant(what_stood_for_others_is_not_healed_with_it, 86, "is told done and the remote lacks"),
    Mutant(purges_are_not_scrubbed, 80, "what was purged still lies there"),
    Mutant(healing_tells_nothing, 5, "differ"),
    Mutant(a_loss_is_obeyed, 5, "they do not come to rest"),
    Mutant(strange_objects_are_taken_for_ours, 48, "were not writt"),
    Mutant(a_deletion_knows_what_lies_in_a_hole, 153, "a deletion swallowed"),
    Mutant(what_a_later_version_wrote_is_read, 19, "says again what a later version wrote"),
    Mutant(a_least_version_is_not_heeded, 16, "writes though it was told"),
    Mutant(what_was_set_aside_stays_there, 63, "they do not come to rest"),
    Mutant(what_is_not_known_is_left_out, 103, "is gone, and nobody replaced it"),
    Mutant(a_save_replaces_what_its_writer_never_saw, 477, "is gone, and nobody replaced it"),
    Mutant(a_save_notes_nothing_as_known, 46, "which stands beside it"),
    Mutant(a_save_is_not_remembered, 152, "messages"),
    Mutant(a_file_that_is_gone_takes_all_with_it, 453, "a deletion swallowed"),
    Mutant(what_comes_under_a_revoked_key_counts, 5, "which is revoked"),
    Mutant(who_was_shut_out_goes_on_sending, 189, "a key that it knows to be revoked"),
    Mutant(what_a_former_key_seals_stays_so, 35, "they do not come to rest"),
    Mutant(any_vault_is_ours, 39, "another vault"),
]
