"""Another passphrase, another key: what a vault's keys become, and how other devices hear of it.

    keys/<n>.<random>     wraps all keys by passphrase n; the greatest n counts
    keys/<old>-<new>      a notice, sealed with the key ``old``: that ``new`` follows it

A notice is a sealed object (`seal`) of the JSON ``{"steno_notice":1,"key":<id>,"secret":<32 bytes>}``, not compressed.
Whoever holds the old key takes up the new one from it, without a passphrase. Where a key was stolen nobody may follow:
``secret`` is null then, the other devices must join again with a new passphrase, and what comes under the former keys
does not count (`revoked`; docs/decisions/0015).

A new key object is written, read back and opened before the former ones are deleted, and a new key seals nothing before
it is wrapped on the remote (tests/unit/test_vault_rotation.py; tests/e2e/test_crash.py kills in between).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Literal, Protocol

import msgspec

from ...storage.errors import InvalidInput, NewerFormat, ObjectDamaged, ObjectMissing, StenoError, WrongKey
from ...storage.home import Home
from ...storage.steps import step
from .kdf import Derive, KdfCost, derive_in_child
from .keys import joined, learned, open_key, parse_key_object, wrap_key
from .membership import Lock, Membership, change_keys, membership, remote_of, required_membership
from .names import KEYS, MAX_NUMBER, Draw, KeyName, NoticeName, counting_keys, new_id
from .remote import Remote
from .revoked import shut
from .seal import SALT_BYTES, SECRET_BYTES, Keyring, UnknownKey, VaultKey, seal, sealed_with, unseal
from .vault import KeysGone, unlock_vault

FORMAT = 1
MAX_NOTICE_BYTES = 4096
MAX_KEYS = 256
# A remote may be written by anybody, and may list notices without end.
_MAX_TRIES, _MAX_NAMES = 32, 10_000


class KeyChanged(StenoError):
    """The vault has a key that this home does not hold and cannot take up by itself; nothing was written."""

    exit_code = 7
    hint = "run `steno join URL` again with the vault's present passphrase"

    def __init__(self, *, vault: str) -> None:
        super().__init__(f"the key of vault {vault} was changed on another device")
        self.vault = vault


class PassphraseChanged(WrongKey):
    """The passphrase that was made here opens the vault no more."""

    hint = "`steno vault passwd` here gives it another one"

    def __init__(self, *, vault: str) -> None:
        StenoError.__init__(self, f"the passphrase of vault {vault} was changed on another device")
        self.vault = vault


class _Format(msgspec.Struct, frozen=True):
    steno_notice: int


class _Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    steno_notice: Literal[1]
    key: Annotated[str, msgspec.Meta(pattern="^[0-9a-z]{12}$", max_length=12)]
    secret: Annotated[bytes, msgspec.Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)] | None


class Rotated(msgspec.Struct, frozen=True):
    """The key that seals from now on. ``resumed``: the passphrase opened one that was made before."""

    key: str
    resumed: bool


# Notices


def sealed_notice(new: str, secret: bytes | None, *, old: VaultKey, vault_id: str, draw: Draw) -> tuple[str, bytes]:
    """Name and content of a notice that ``new`` follows ``old``; without the secret nobody can follow."""
    name = NoticeName(old.id, new).path
    content = msgspec.json.encode(_Notice(FORMAT, new, secret))
    return name, seal(content, key=old, vault_id=vault_id, name=name, salt=draw(SALT_BYTES))


def open_notice(data: bytes, *, name: NoticeName, keyring: Keyring, vault_id: str) -> VaultKey | None:
    """The key that a notice tells, None where it tells none; raise `ObjectDamaged`, `NewerFormat` or `UnknownKey`."""
    path = name.path
    if len(data) > MAX_NOTICE_BYTES:
        raise ObjectDamaged(name=path, reason=f"a notice of {len(data)} bytes")
    if sealed_with(data, name=path) != name.old:
        raise ObjectDamaged(name=path, reason="it is sealed with another key than its name says")
    content = unseal(data, keyring=keyring, vault_id=vault_id, name=path)
    try:
        if msgspec.json.decode(content, type=_Format).steno_notice > FORMAT:
            raise NewerFormat(name=path)
        notice = msgspec.json.decode(content, type=_Notice)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # The cause could quote the secret; it is not chained.
        raise ObjectDamaged(name=path, reason="it is no notice") from None
    if notice.key != name.new:
        raise ObjectDamaged(name=path, reason="it tells another key than its name says")
    return None if notice.secret is None else VaultKey(notice.key, notice.secret)


class Found(msgspec.Struct, frozen=True):
    """Keys that notices told, each with the key it follows; ``superseded`` are keys whose followers are not told."""

    told: tuple[tuple[str, VaultKey], ...] = ()
    superseded: frozenset[str] = frozenset()

    def taken_up(self, keyring: Keyring) -> Keyring:
        """The ring with what was told."""
        for after, key in self.told:
            keyring = learned(keyring, key, after=after)
        return keyring


async def seek(remote: Remote, wanted: str, *, keyring: Keyring, vault_id: str, listing: Iterable[str]) -> Found:
    """Follow notices from the keys that are held to the one that is wanted."""
    notices = {name for name in map(NoticeName.parse, islice(listing, _MAX_NAMES)) if name is not None}
    before: dict[str, list[str]] = {}
    for name in notices:
        before.setdefault(name.new, []).append(name.old)
    found = Found()
    for _ in range(_MAX_TRIES):
        ring = found.taken_up(keyring)
        name = _next(notices, before, wanted, ring)
        if name is None or len(ring.keys) >= MAX_KEYS:
            break
        notices.discard(name)
        try:
            data = await remote.get(name.path, limit_bytes=MAX_NOTICE_BYTES)
            key = open_notice(data, name=name, keyring=ring, vault_id=vault_id)
        except (ObjectMissing, ObjectDamaged, NewerFormat, UnknownKey):
            continue
        if key is None:
            found = msgspec.structs.replace(found, superseded=found.superseded | {name.old})
        else:
            found = msgspec.structs.replace(found, told=(*found.told, (name.old, key)))
    return found


def _next(notices: set[NoticeName], before: dict[str, list[str]], wanted: str, ring: Keyring) -> NoticeName | None:
    """The notice under a held key that begins the shortest way to the wanted one; those that were tried are gone."""
    if ring.find(wanted) is not None:
        return None
    seen, queue = {wanted}, deque([wanted])
    while queue:
        new = queue.popleft()
        # Who was shut out may tell keys of their own, under the one that was revoked.
        for name in (NoticeName(key.id, new) for key in reversed(ring.keys) if key.until is None):
            if name in notices:
                return name
        for old in before.get(new, ()):
            if old not in seen and ring.find(old) is None and len(seen) < MAX_KEYS:
                seen.add(old)
                queue.append(old)
    return None


# The keys of a home that is running


class Keys(Protocol):
    """The keys that an engine seals and opens with; they may change under it."""

    def held(self) -> Keyring:
        """The keys as they are now."""
        ...

    @property
    def superseded(self) -> bool:
        """Whether the key that seals was revoked and its follower is not held: nothing more is sealed with it."""
        ...

    def refresh(self) -> bool:
        """Begin another look at the remote; whether the keys are others than at the last one."""
        ...

    async def find(self, remote: Remote, key_id: str) -> bool:
        """Look on the remote for a key that is not held, with one LIST a look; whether it is held now."""
        ...


class FixedKeys:
    """Keys that do not change."""

    superseded = False

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def held(self) -> Keyring:
        """The keys."""
        return self._keyring

    def refresh(self) -> bool:
        """They are the same."""
        return False

    async def find(self, remote: Remote, key_id: str) -> bool:  # noqa: ARG002  there is nowhere to keep it
        """Nothing is found."""
        return False


class HomeKeys:
    """The keys of the vault that a home belongs to: read again when its file changes, followed by notices."""

    def __init__(self, home: Home, found: Membership, *, lock: Lock) -> None:
        self._home = home
        self._vault = found.vault
        self._lock = lock
        self._keyring = self._looked_with = found.keyring
        self._seen: tuple[int, int] | None = None
        self._listing: list[str] | None = None
        self._superseded: frozenset[str] = frozenset()

    def held(self) -> Keyring:
        """The keys as they are now; those of before where the home belongs to no vault any more."""
        try:
            stat = self._home.vault_file.stat()
        except OSError:
            return self._keyring
        seen = stat.st_mtime_ns, stat.st_ino
        if seen != self._seen:
            found = membership(self._home)
            if found is not None and found.vault == self._vault:
                self._keyring = found.keyring
            self._seen = seen
        return self._keyring

    @property
    def superseded(self) -> bool:
        """Whether the key that seals was revoked and its follower is not held."""
        return self.held().current.id in self._superseded

    def refresh(self) -> bool:
        """Begin another look at the remote."""
        self._listing = None
        before, self._looked_with = self._looked_with, self.held()
        return before != self._looked_with

    async def find(self, remote: Remote, key_id: str) -> bool:
        """Look for a key among the notices, and keep it in the home."""
        if self.held().find(key_id) is None:
            if self._listing is None:
                self._listing = await remote.list(KEYS)
            found = await seek(remote, key_id, keyring=self.held(), vault_id=self._vault, listing=self._listing)
            self._superseded |= found.superseded
            if found.told:
                change_keys(self._home, vault=self._vault, changed=found.taken_up, lock=self._lock)
        return self.held().find(key_id) is not None


# Changing them


async def change_passphrase(
    home: Home, *, passphrase: str, draw: Draw, cost: KdfCost, lock: Lock, derive: Derive = derive_in_child
) -> bool:
    """Wrap the vault's keys by another passphrase; False where it was this one already.

    The former one opens nothing afterwards; other devices go on as they are. Raises `KeyChanged` where the vault has a
    key that this home does not know.
    """
    found = required_membership(home)
    async with remote_of(found) as remote:
        wrapping = _Wrapping(remote, found.vault, draw=draw, cost=cost, derive=derive)
        present = await wrapping.opened(passphrase)
        if present is None or not present.alone or joined(present.keyring, found.keyring) != present.keyring:
            keyring = await all_keys(home, remote, found.keyring, vault_id=found.vault, lock=lock)
            number = await wrapping.put(keyring, passphrase)
        else:
            number, keyring = present.number, present.keyring
        step("passwd.key-put")
        forget = found.recovery != passphrase
        change_keys(
            home, vault=found.vault, changed=lambda held: joined(held, keyring), lock=lock, forget_recovery=forget
        )
        step("passwd.kept")
        await wrapping.delete_before(number)
    return present is None


async def rotate(
    home: Home, *, passphrase: str, draw: Draw, cost: KdfCost, lock: Lock, derive: Derive = derive_in_child
) -> Rotated:
    """Give the vault a new key, wrapped by its present passphrase; devices that hold the former one follow.

    Raises `WrongKey` before anything is written.
    """
    found = required_membership(home)
    async with remote_of(found) as remote:
        present = await unlock_vault(remote, passphrase=passphrase, vault_id=found.vault, derive=derive)
        former = joined(found.keyring, present)
        former = await all_keys(home, remote, former, vault_id=found.vault, lock=lock)
        keyring = _with_new_key(former, draw)
        name, notice = sealed_notice(
            keyring.current.id, keyring.current.secret, old=former.current, vault_id=found.vault, draw=draw
        )
        # First the notice: it tells a key that seals nothing yet, while a key without it would leave devices behind.
        await remote.put(name, notice)
        step("rotate.notice-put")
        wrapping = _Wrapping(remote, found.vault, draw=draw, cost=cost, derive=derive)
        number = await wrapping.put(keyring, passphrase)
        step("rotate.key-put")
        change_keys(home, vault=found.vault, changed=lambda held: joined(held, keyring), lock=lock)
        step("rotate.kept")
        await wrapping.delete_before(number)
    return Rotated(keyring.current.id, resumed=False)


async def revoke(
    home: Home, *, passphrase: str, published: dict[str, int], draw: Draw, cost: KdfCost, lock: Lock,
    derive: Derive = derive_in_child,
) -> Rotated:  # fmt: skip
    """Give the vault a new key and a new passphrase; no device follows without it, nor does who stole the former key.

    ``published`` is the last publication of each device that is taken in here: of what comes later under the former
    keys nothing counts (`revoked`).
    Run again with the same passphrase after it was cut short, it finishes. Raises `InvalidInput` for the present one.
    """
    found = required_membership(home)
    async with remote_of(found) as remote:
        wrapping = _Wrapping(remote, found.vault, draw=draw, cost=cost, derive=derive)
        present = await wrapping.opened(passphrase)
        if present is None:
            former = await all_keys(home, remote, found.keyring, vault_id=found.vault, lock=lock)
            keyring = _with_new_key(shut(former, published), draw)
            number = await wrapping.put(keyring, passphrase)
        else:
            former, keyring = found.keyring, joined(found.keyring, present.keyring)
            if keyring == former:
                raise InvalidInput(
                    "this is the vault's present passphrase",
                    hint="whoever is to be shut out may know it: choose another one",
                )
            number = present.number
        step("revoke.key-put")
        name, notice = sealed_notice(keyring.current.id, None, old=former.current, vault_id=found.vault, draw=draw)
        await remote.put(name, notice)
        step("revoke.notice-put")
        change_keys(
            home, vault=found.vault, changed=lambda held: joined(held, keyring), lock=lock, forget_recovery=True
        )
        step("revoke.kept")
        await wrapping.delete_before(number)
    return Rotated(keyring.current.id, resumed=present is not None)


async def opens(found: Membership, *, passphrase: str, derive: Derive = derive_in_child) -> bool:
    """Whether a passphrase opens the vault on the remote just now."""
    async with remote_of(found) as remote:
        try:
            await unlock_vault(remote, passphrase=passphrase, vault_id=found.vault, derive=derive)
        except WrongKey:
            return False
        return True


class _Present(msgspec.Struct, frozen=True):
    """The number of the keys that count, and what is in them; ``alone``: no other passphrase opens them."""

    number: int
    keyring: Keyring
    alone: bool


class _Wrapping:
    """The key objects of one vault: what wraps its keys."""

    def __init__(self, remote: Remote, vault_id: str, *, draw: Draw, cost: KdfCost, derive: Derive) -> None:
        self._remote = remote
        self._vault_id = vault_id
        self._draw = draw
        self._cost = cost
        self._derive = _once(derive)

    async def opened(self, passphrase: str) -> _Present | None:
        """What counts now and opens by this passphrase; None where nothing does."""
        counting = counting_keys(await self._remote.list(KEYS))
        try:
            keyring = await unlock_vault(
                self._remote, passphrase=passphrase, vault_id=self._vault_id, derive=self._derive
            )
        except (WrongKey, KeysGone, ObjectDamaged, ObjectMissing, NewerFormat):
            return None
        return _Present(counting[0].n, keyring, len(counting) == 1)

    async def put(self, keyring: Keyring, passphrase: str) -> int:
        """Write the next key object, read it back and open it; its number."""
        number = _greatest(await self._remote.list(KEYS)) + 1
        if number > MAX_NUMBER:
            raise ObjectDamaged(name=KEYS, reason="the numbers of its key objects lead too far")
        path = KeyName(number, new_id(self._draw)).path
        data = await asyncio.to_thread(
            wrap_key, keyring, passphrase=passphrase, vault_id=self._vault_id, n=number,
            draw=self._draw, cost=self._cost, derive=self._derive,
        )  # fmt: skip
        await self._remote.put(path, data)
        read = parse_key_object(await self._remote.get(path), name=path, vault_id=self._vault_id)
        opened = await asyncio.to_thread(open_key, read, passphrase=passphrase, name=path, derive=self._derive)
        if opened != keyring:
            raise ObjectDamaged(name=path, reason="it is not what was written there")
        if _greatest(await self._remote.list(KEYS)) > number:
            await self._remote.delete(path)
            raise KeyChanged(vault=self._vault_id)
        return number

    async def delete_before(self, number: int) -> None:
        """Delete the key objects that count no more."""
        for key_name in filter(None, map(KeyName.parse, await self._remote.list(KEYS))):
            if key_name.n < number:
                await self._remote.delete(key_name.path)
                step("vault.former-key-deleted")


def _once(derive: Derive) -> Derive:
    """The same derivation, paid once: what was wrapped is opened again by the same passphrase, salt and cost."""
    known: dict[tuple[str, bytes, KdfCost], bytes] = {}

    def derived(passphrase: str, salt: bytes, cost: KdfCost) -> bytes:
        wanted = passphrase, salt, cost
        if wanted not in known:
            known[wanted] = derive(passphrase, salt, cost)
        return known[wanted]

    return derived


def _greatest(listing: list[str]) -> int:
    return max((key_name.n for key_name in counting_keys(listing)), default=0)


async def all_keys(home: Home, remote: Remote, keyring: Keyring, *, vault_id: str, lock: Lock) -> Keyring:
    """The ring with every key that the vault's key objects name; raises `KeyChanged` where one cannot be followed.

    Whoever wrote a key object without one of them would take it from every device that joins later.
    """
    listing = await remote.list(KEYS)
    for key_name in counting_keys(listing)[:_MAX_TRIES]:
        path = key_name.path
        try:
            wanted = parse_key_object(await remote.get(path), name=path, vault_id=vault_id).key
        except (ObjectMissing, ObjectDamaged):
            continue
        if keyring.find(wanted) is None:
            found = await seek(remote, wanted, keyring=keyring, vault_id=vault_id, listing=listing)
            keyring = found.taken_up(keyring)
            if keyring.find(wanted) is None:
                raise KeyChanged(vault=vault_id)
            change_keys(home, vault=vault_id, changed=found.taken_up, lock=lock)
    return keyring


def _with_new_key(keyring: Keyring, draw: Draw) -> Keyring:
    if len(keyring.keys) >= MAX_KEYS:
        raise InvalidInput(f"a vault has at most {MAX_KEYS} keys", hint="make a new vault: `steno init --remote URL`")
    return Keyring((*keyring.keys, VaultKey.new(draw)))
