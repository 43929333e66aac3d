"""From a passphrase to a key: Argon2id, in a process of its own, with bounded cost.

The parameters of a vault come from a remote that anybody may have written, so they are
bounded before they are used. The memory that Argon2id takes is that of a child which
ends at once, never the daemon's. The passphrase reaches the child by its standard input,
never by arguments or environment (tests/unit/test_vault_kdf.py).
"""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from ...storage.errors import InvalidInput, StenoError

KEY_BYTES = 32
SALT_BYTES = 16
TIME_LIMIT_S = 300.0

_MAX_MEMORY_KIB = 1024 * 1024
_MAX_ITERATIONS = 20
_MAX_LANES = 16


class KdfCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one guess of a passphrase costs; by default the second choice of RFC 9106: 64 MiB, 3 passes, 4 lanes."""

    memory_kib: int = 64 * 1024
    iterations: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        """Refuse a cost that Argon2id does not know or that could hang or starve this machine."""
        if not (
            1 <= self.lanes <= _MAX_LANES
            and 1 <= self.iterations <= _MAX_ITERATIONS
            and 8 * self.lanes <= self.memory_kib <= _MAX_MEMORY_KIB
        ):
            raise InvalidInput(
                f"Argon2id with {self.memory_kib} KiB, {self.iterations} passes and {self.lanes} lanes is out of bounds"
            )


MINIMUM_COST = KdfCost(memory_kib=8, iterations=1, lanes=1)
"""The cheapest cost there is; for tests only."""


class KdfFailed(StenoError):
    """The passphrase could not be turned into a key here."""

    retryable = True
    hint = "free some memory, then run it again"

    def __init__(self, *, cost: KdfCost, reason: str) -> None:
        super().__init__(f"the passphrase could not be checked with {cost.memory_kib} KiB of memory ({reason})")


Derive = Callable[[str, bytes, KdfCost], bytes]
"""Passphrase, salt and cost to 32 bytes: `derive_in_child`, or `derive` where a process is too much."""


class _Task(msgspec.Struct, frozen=True):
    passphrase: str
    salt: bytes
    cost: KdfCost


def derive(passphrase: str, salt: bytes, cost: KdfCost) -> bytes:
    """Derive 32 bytes in this process, which takes ``cost.memory_kib`` of it."""
    return Argon2id(
        salt=salt, length=KEY_BYTES, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib
    ).derive(_passphrase_bytes(passphrase))


def derive_in_child(passphrase: str, salt: bytes, cost: KdfCost) -> bytes:
    """Derive 32 bytes in a child process; blocks for about as long as the cost says."""
    _passphrase_bytes(passphrase)
    task = msgspec.json.encode(_Task(passphrase, salt, cost))
    # -P: a directory named like one of our dependencies, in the place where the user stands, is not imported.
    command = [sys.executable, "-P", "-m", __name__]
    try:
        child = subprocess.run(command, input=task, capture_output=True, timeout=TIME_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise KdfFailed(cost=cost, reason=type(exc).__name__) from exc
    if child.returncode != 0 or len(child.stdout) != KEY_BYTES:
        raise KdfFailed(cost=cost, reason=_last_line(child.stderr) or f"exit code {child.returncode}")
    return child.stdout


def _passphrase_bytes(passphrase: str) -> bytes:
    # NFC: the same accent typed on another system may come as other code points.
    try:
        text = unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError as exc:
        raise InvalidInput("the passphrase is not text in UTF-8") from exc
    if not text:
        raise InvalidInput("the passphrase cannot be empty")
    return text


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _child() -> None:
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=_Task)
    sys.stdout.buffer.write(derive(task.passphrase, task.salt, task.cost))


if __name__ == "__main__":
    _child()
