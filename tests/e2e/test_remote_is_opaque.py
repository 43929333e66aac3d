"""Nothing on the remote can be read: no word, title, tag, id or name, in no object and in no object's name."""

from __future__ import annotations

import base64
import platform
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steno.tests.e2e.device import PASSPHRASE, Device, equal, until
from steno.tests.e2e.test_mirror import SESSION, transcript

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]
TITLE, TAG, USER = "Zanzibar quarterly plan", "confidential-tag", "ada.lovelace"
WORDS = ["kumquat marmalade", "rhododendron", "ünïcode ☃ snowman"]
FORMAT = re.compile(
    r"(vault\.json|keys/\d+\.[0-9a-z]{12}|log/[0-9a-z]{12}\.\d{12}-\d{12}\.\d\.[0-9a-z]{12}|devices/[0-9a-z]{12}\.\d+)"
)


@pytest.fixture(scope="module")
def used(short: Path, make_pair: Callable[[Path], Pair]) -> Iterator[Pair]:
    """Two devices that did everything that one can do to a session."""
    laptop, desktop = devices = make_pair(short / "opaque")
    (short / "opaque-import").mkdir()
    for device in devices:
        device.start()
    about = ("--title", TITLE, "--tags", TAG, "--user", USER, "--metadata", '{"customer": "Wonkavision"}')
    session = laptop.here("create", *about, "--format", "json").json["id"]
    for word in WORDS:
        laptop.here("add", session, f"{word} {word}", "--sender", "grace.hopper")
    laptop.here("import", str(transcript(short / "opaque-import")))
    until(lambda: equal(*devices) and len(laptop.everything()) == 2, "the desktop has all of it")
    desktop.here("rename", session, f"{TITLE} again")
    path = desktop.file(session)
    until(lambda: "snowman" in path.read_text(encoding="utf-8"), "the file is whole")
    path.write_text(path.read_text(encoding="utf-8").replace("rhododendron", "rhododendron mucronulatum"), "utf-8")
    until(lambda: any("mucronulatum" in str(each) for each in laptop.contents(session)), "the edit is back")
    until(lambda: "mucronulatum" in laptop.file(session).read_text(encoding="utf-8"), "the other file has it")
    laptop.here("delete", SESSION)
    until(lambda: equal(*devices), "both are equal")
    yield devices
    for device in devices:
        device.stop()


def _secrets(device: Device) -> list[str]:
    """Everything that a person would not want to be read."""
    with device.store() as store:
        rows = store.execute("SELECT id, title FROM sessions").fetchall()
        messages = store.execute("SELECT id, sender, model FROM messages").fetchall()
    found = {str(value) for row in [*rows, *messages] for value in row if value}
    names = [platform.node(), "laptop", "desktop"]
    return [*found, TITLE, TAG, USER, *WORDS, "Wonkavision", "mucronulatum", "basket", "claude", PASSPHRASE, *names]


def _objects(device: Device) -> dict[str, bytes]:
    return {
        str(path.relative_to(device.folder)): path.read_bytes() for path in device.folder.rglob("*") if path.is_file()
    }


def test_no_object_holds_anything_that_could_be_read(used: Pair):
    laptop, _ = used
    found = []
    for name, data in _objects(laptop).items():
        low = data.lower()
        for secret in _secrets(laptop):
            forms = {secret.lower().encode(), *(each.encode() for each in secret.lower().split() if len(each) > 4)}
            forms |= {base64.b64encode(secret.encode()).lower().strip(b"="), secret.encode().hex().encode()}
            found += [(name, form) for form in forms if len(form) > 4 and form in low]
    assert found == []


def test_the_words_that_are_sought_stand_where_they_may(used: Pair):
    laptop, _ = used
    text = b"".join(path.read_bytes() for path in laptop.files()).decode().lower()
    for word in (TITLE, TAG, "wonkavision", "mucronulatum", USER, "grace.hopper"):
        assert word.lower() in text


def test_object_names_say_devices_and_numbers_only(used: Pair):
    laptop, desktop = used
    names = sorted(_objects(laptop))
    assert len(names) > 5
    assert [name for name in names if not FORMAT.fullmatch(name)] == []
    devices = {name.split("/")[1].split(".")[0] for name in names if name.startswith("log/")}
    assert devices == {device.json("status")["device"] for device in (laptop, desktop)}


def test_no_two_objects_are_sealed_alike(used: Pair):
    log = [data for name, data in _objects(used[0]).items() if name.startswith("log/")]
    salts = [data[:64] for data in log]
    assert len(set(salts)) == len(log)


def test_the_key_is_not_on_the_remote(used: Pair):
    for device in used:
        kept = device.home.vault_file.read_text(encoding="utf-8")
        secrets = [base64.b64decode(each) for each in re.findall(r'"([A-Za-z0-9+/]{40,}={0,2})"', kept)]
        secrets += [each.encode() for each in re.findall(r'"([A-Za-z0-9+/=_-]{40,})"', kept)]
        assert secrets
        for data in _objects(device).values():
            assert not [secret for secret in secrets if secret in data]
