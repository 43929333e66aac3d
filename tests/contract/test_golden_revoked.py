"""A vault of which a key was revoked: its bytes stay readable for ever, by Steno and by the reader of the page.

`STENO_MAKE_GOLDEN=vault-2 pytest tests/contract/test_golden_revoked.py` writes them anew, and fails so that nobody does
it unawares.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest

from steno.storage.change import local_changes
from steno.storage.database import ALPHABET
from steno.storage.home import Home
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.kdf import KdfCost
from steno.sync.vault.keys import kept_key, open_key, parse_kept_key, parse_key_object, wrap_key
from steno.sync.vault.membership import join_vault
from steno.sync.vault.names import KeyName, SegmentName
from steno.sync.vault.opendal_remote import FolderRemote
from steno.sync.vault.revoked import RevokedKey, shut
from steno.sync.vault.seal import Keyring, VaultKey, pack, seal, unpack, unseal
from steno.sync.vault.vault import vault_json
from steno.tests.contract.vault_reader import read_vault

GOLDEN = Path(__file__).parents[1] / "golden" / "vault-2"
ANEW = os.environ.get("STENO_MAKE_GOLDEN") == GOLDEN.name
PASSPHRASE, VAULT, LAPTOP, STOLEN = "battery staple", "vaultvault00", "laptop000000", "stolen000000"
REVOKED, PRESENT = VaultKey("firstfirst00", b"1" * 32), VaultKey("secondsecond", b"2" * 32)
RING = Keyring((*shut(Keyring((REVOKED,)), {LAPTOP: 1, STOLEN: 1}).keys, PRESENT))
KEYS = KeyName(2, "randomrandom").path
START_MS = 1_800_000_000_000
SEGMENTS = {
    "by the laptop": (SegmentName(LAPTOP, 1, 1, 0, "aaaaaaaaaaaa"), REVOKED),
    "before it was stolen": (SegmentName(STOLEN, 1, 1, 0, "bbbbbbbbbbbb"), REVOKED),
    "by the thief": (SegmentName(STOLEN, 2, 2, 0, "cccccccccccc"), REVOKED),
    "by the thief as another": (SegmentName("stranger0000", 1, 1, 0, "dddddddddddd"), REVOKED),
    "by the laptop, too": (SegmentName(LAPTOP, 2, 2, 0, "eeeeeeeeeeee"), PRESENT),
}
ASIDE = {name.path for said, (name, _) in SEGMENTS.items() if "thief" in said}
SHOWN = {said for said in SEGMENTS if "thief" not in said}


def contents(folder: Path) -> dict[str, bytes]:
    """What each segment says: one session with one message, by the words of `SEGMENTS`."""
    found: dict[str, bytes] = {}
    for at, (said, (name, _)) in enumerate(SEGMENTS.items()):
        choices = random.Random(at).choices
        store = Store(
            folder / f"{at}.db",
            now_ms=lambda: START_MS,
            random=lambda length, choices=choices: "".join(choices(ALPHABET, k=length)),
        )
        store.create(id=f"s{at}", title=said)
        store.append(f"s{at}", NewMessage(id="m", role="user", content=said))
        found[name.path], _, _ = local_changes(store, since=0, floor=0, max_bytes=1 << 20)
        store.close()
    return found


def key_object() -> bytes:
    draw = random.Random(1).randbytes
    return wrap_key(RING, passphrase=PASSPHRASE, vault_id=VAULT, n=2, draw=draw, cost=KdfCost())


@pytest.fixture(scope="module", autouse=True)
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not ANEW:
        return GOLDEN
    salts = random.Random(2).randbytes
    said = contents(tmp_path_factory.mktemp("made"))
    files = {"remote/vault.json": vault_json(VAULT), f"remote/{KEYS}": key_object()}
    for name, key in SEGMENTS.values():
        sealed = seal(pack(said[name.path]), key=key, vault_id=VAULT, name=name.path, salt=salts(16))
        files[f"remote/{name.path}"] = sealed
    files["kept.json"] = kept_key(RING, vault_id=VAULT)
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for path, data in files.items():
        (GOLDEN / path).parent.mkdir(parents=True, exist_ok=True)
        (GOLDEN / path).write_bytes(data)
    pytest.fail(f"{GOLDEN} was written anew: look at what changed, and run this again without STENO_MAKE_GOLDEN")


def test_what_is_written_today_is_what_was_written_then(golden: Path, tmp_path: Path):
    assert (golden / "remote" / KEYS).read_bytes() == key_object()
    assert (golden / "kept.json").read_bytes() == kept_key(RING, vault_id=VAULT)
    written = {
        name.path: unpack(
            unseal((golden / "remote" / name.path).read_bytes(), keyring=RING, vault_id=VAULT, name=name.path),
            name=name.path,
        )
        for name, _ in SEGMENTS.values()
    }
    assert written == contents(tmp_path)


def test_the_keys_say_what_counts_under_them(golden: Path):
    read = parse_key_object((golden / "remote" / KEYS).read_bytes(), name=KEYS, vault_id=VAULT)
    assert open_key(read, passphrase=PASSPHRASE, name=KEYS) == RING
    assert parse_kept_key((golden / "kept.json").read_bytes(), path="") == (VAULT, RING)


def test_a_new_device_reads_what_counts(golden: Path, tmp_path: Path):
    remote = shutil.copytree(golden / "remote", tmp_path / "remote")
    home = Home(tmp_path / "home", tmp_path / "home")

    async def read() -> tuple[set[str], set[str]]:
        member = await join_vault(home, str(remote), passphrase=PASSPHRASE)
        with Store(home.database) as store:
            engine = VaultEngine(
                store, FolderRemote(remote), vault=member.vault, keyring=member.keyring,
                now_ms=lambda: START_MS, draw=os.urandom,
            )  # fmt: skip
            report = await engine.sync()
            return {each.title for each in store.sessions()}, set(report.problems)

    shown, problems = asyncio.run(read())
    assert shown == SHOWN
    assert problems == {RevokedKey(name=name).line for name, _ in SEGMENTS.values() if name.path in ASIDE}


def test_the_reader_of_the_page_reads_what_counts(golden: Path):
    found = read_vault(golden / "remote", PASSPHRASE)
    assert {each["title"] for each in found.sessions} == SHOWN
    assert {problem.partition(":")[0] for problem in found.problems} == ASIDE
