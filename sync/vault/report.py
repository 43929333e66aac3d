"""What a sync did and what it could not do, as values and as the lines that people read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

from .names import SegmentName
from .plan import PullPlan
from .ranges import Range

MOST_NAMED = 100
"""How many of the objects that are set aside a report names."""


class SyncReport(msgspec.Struct):
    """What a sync did, and what it could not do. ``rescued``: what was purged elsewhere and kept here, and where.

    ``notes`` are what a person should know and need not do anything about.
    """

    sent_segments: int = 0
    sent_bytes: int = 0
    received_segments: int = 0
    received_messages: int = 0
    changed_sessions: int = 0
    healed_segments: int = 0
    pending_segments: int = 0
    rescued: list[str] = []
    notes: list[str] = []
    problems: list[str] = []

    @property
    def complete(self) -> bool:
        """Say whether nothing is left to do or to report."""
        return not self.problems and not self.pending_segments


def problems_of(plan: PullPlan) -> list[str]:
    """What is not as it should be on a remote, one line each."""
    problems = [
        f"publications {numbers(holes)} of device {device} are not on the remote"
        for device, holes in itertools.islice(plan.holes.items(), MOST_NAMED)
    ]
    if len(plan.holes) > MOST_NAMED:
        problems.append(f"publications of {len(plan.holes) - MOST_NAMED} more devices are not on the remote")
    if plan.strange:
        problems.append(
            "objects on the remote carry this device's id and were not written here "
            f"({len(plan.strange)}: {plan.strange[0].path}): this home was copied or restored, and what they hold is "
            "not taken in yet"
        )
    if plan.passed_over:
        problems.append(f"the remote lists {plan.passed_over} more names than any vault has; they are passed over")
    if plan.lost:
        count = len(plan.lost)
        what = "an object that was on the remote is" if count == 1 else f"{count} objects that were on the remote are"
        first = plan.lost[0].path
        problems.append(f"{what} gone ({first}): what is here of it is sent again later, or at once by `steno repair`")
    return problems


def notes_of(plan: PullPlan, left_out: Sequence[SegmentName] = ()) -> list[str]:
    """What a person may want to know of what lies on a remote, and of what was ``left_out`` to spare the connection."""
    notes: list[str] = []
    if plan.foreign:
        count = len(plan.foreign)
        what = "a name that is none of ours is" if count == 1 else f"{count} names that are none of ours are"
        notes.append(f"{what} on the remote and passed over ({plan.foreign[0]!a})")
    if left_out:
        devices = len({name.device for name in left_out})
        whose = "a device that is" if devices == 1 else f"{devices} devices that are"
        notes.append(
            f"the history of {whose} new here waits ({len(left_out)} object{'s' * (len(left_out) > 1)}): "
            "`steno sync` takes it in, or `steno metered --off`"
        )
    return notes


def numbers(holes: list[Range]) -> str:
    """Ranges of numbers as people read them."""
    shown = ", ".join(f"{first}-{last}" for first, last in holes[:10])
    return shown if len(holes) <= 10 else f"{shown} and others"
