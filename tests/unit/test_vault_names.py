from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from steno.storage.errors import InvalidInput
from steno.sync.vault.names import (
    MAX_LEVEL,
    MAX_NUMBER,
    DeviceName,
    KeyName,
    NoticeName,
    PairName,
    SegmentName,
    check_name,
    counting_keys,
    is_id,
    is_object,
    new_id,
)

A = "a1b2c3d4e5f6"
R = "zyxwvu987654"
ids = st.from_regex(r"[0-9a-z]{12}", fullmatch=True)
numbers = st.integers(1, MAX_NUMBER)
segments = st.builds(
    lambda device, ends, level, random: SegmentName(device, min(ends), max(ends), level, random),
    ids,
    st.tuples(numbers, numbers),
    st.integers(0, MAX_LEVEL),
    ids,
)


@given(segments)
def test_a_segments_name_is_read_back_from_its_path(name: SegmentName):
    assert SegmentName.parse(name.path) == name


@given(st.builds(KeyName, numbers, ids))
def test_a_keys_name_is_read_back_from_its_path(name: KeyName):
    assert KeyName.parse(name.path) == name


@given(st.builds(DeviceName, ids, numbers))
def test_a_device_records_name_is_read_back_from_its_path(name: DeviceName):
    assert DeviceName.parse(name.path) == name


@given(st.builds(PairName, ids))
def test_an_offers_name_is_read_back_from_its_path(name: PairName):
    assert PairName.parse(name.path) == name


@given(ids, ids)
def test_a_notices_name_is_read_back_from_its_path_and_is_no_keys(old: str, new: str):
    assume(old != new)
    name = NoticeName(old, new)
    assert (NoticeName.parse(name.path), KeyName.parse(name.path)) == (name, None)


@pytest.mark.parametrize(
    "name", [f"keys/{A}-{A}", f"keys/{A}-{R}.1", f"keys/{A}-{R} (copy)", f"keys/{A}-", f"log/{A}-{R}"]
)
def test_a_foreign_name_among_the_keys_is_no_notice(name: str):
    assert NoticeName.parse(name) is None


@pytest.mark.parametrize("name", ["pair/", f"pair/{A}~", f"pair/{A}\n", f"pair/{A}{R}", f"keys/{A}"])
def test_a_foreign_name_among_the_offers_is_none(name: str):
    assert PairName.parse(name) is None


@pytest.mark.parametrize("make", [lambda: NoticeName(A, A), lambda: NoticeName(A, "x"), lambda: PairName("../x")])
def test_a_notice_or_offer_that_could_not_be_read_back_is_not_named(make: Callable[[], object]):
    with pytest.raises(InvalidInput):
        make()


def test_what_belongs_to_a_vault_is_known_by_its_name():
    ours = ["vault.json", f"keys/1.{R}", f"keys/{A}-{R}", f"devices/{A}.1", f"pair/{A}"]
    foreign = ["vault (1).json", "keys/note.txt", f"log/{A}", "devices/x", "pair/x"]
    assert [is_object(name) for name in ours + foreign] == [True] * 5 + [False] * 5


@given(st.lists(segments))
def test_the_paths_of_one_device_sort_like_its_log(names: list[SegmentName]):
    log = [SegmentName(A, name.first, name.last, 0, name.random) for name in names]
    assert [name.path for name in sorted(log)] == sorted(name.path for name in log)


@given(st.from_regex(r"(log|keys|devices)/[0-9a-z.\- ]{1,60}", fullmatch=True))
def test_whatever_parses_is_spelled_in_the_one_way(name: str):
    parsed = SegmentName.parse(name) or KeyName.parse(name) or DeviceName.parse(name)
    assert parsed is None or parsed.path == name


@pytest.mark.parametrize(
    "name",
    [
        f"log/{A}.000000000001-000000000002.0.{R} (conflicted copy)",
        f"log/{A}.000000000001-000000000002.0.{R}.sync-conflict-20261120-101010-ABCDEFG",
        f"log/{A}.000000000001-000000000002.0.{R}~",
        f"log/{A}.000000000001-000000000002.0.{R}\n",
        f"log/.syncthing.{A}.000000000001-000000000002.0.{R}.tmp",
        f"log/{A}.1-2.0.{R}",
        f"log/{A}.000000000002-000000000001.0.{R}",
        f"log/{A}.000000000000-000000000001.0.{R}",
        f"log/{A}.000000000001-000000000002.00.{R}",
        f"log/{A}.000000000001-000000000002.100.{R}",
        f"log/{A}.00000000000\u0661-000000000002.0.{R}",
        f"log/{A.upper()}.000000000001-000000000002.0.{R}",
        f"log/{A}x.000000000001-000000000002.0.{R}",
        f"keys/{A}.000000000001-000000000002.0.{R}",
        f"/log/{A}.000000000001-000000000002.0.{R}",
        "log/",
        "",
    ],
)
def test_a_foreign_name_in_the_log_is_no_segment(name: str):
    assert SegmentName.parse(name) is None


@pytest.mark.parametrize("name", [f"keys/0.{R}", f"keys/01.{R}", f"keys/-1.{R}", f"keys/1.{R} 2", "keys/1", "keys/"])
def test_a_foreign_name_among_the_keys_is_no_key(name: str):
    assert KeyName.parse(name) is None


@pytest.mark.parametrize("name", [f"devices/{A}.0", f"devices/{A}.01", f"devices/{A}", f"devices/{A}.1.bak"])
def test_a_foreign_name_among_the_devices_is_no_record(name: str):
    assert DeviceName.parse(name) is None


@pytest.mark.parametrize(
    ("first", "last", "level"), [(0, 1, 0), (2, 1, 0), (1, MAX_NUMBER + 1, 0), (1, 1, MAX_LEVEL + 1), (1, 1, -1)]
)
def test_a_segment_that_could_not_be_read_back_is_not_named(first: int, last: int, level: int):
    with pytest.raises(InvalidInput):
        SegmentName(A, first, last, level, R)


def test_the_greatest_n_counts_and_foreign_names_do_not():
    listing = [f"keys/9.{R}", f"keys/10.{R}", f"keys/10.{A}", f"keys/11.{R} (copy)", "keys/99"]
    assert counting_keys(listing) == [KeyName(10, A), KeyName(10, R)]


def test_no_key_counts_in_an_empty_listing():
    assert counting_keys([]) == []


@given(st.binary(min_size=16, max_size=16))
def test_any_random_bytes_make_an_id(random: bytes):
    assert is_id(new_id(lambda size_bytes: random[:size_bytes]))


def test_ids_drawn_from_the_system_differ():
    assert len({new_id(os.urandom) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "name", ["", "/", "..", "../x", "log/../x", "log/", "/log/x", "a/b/c", ".tmp/x", "log/.x", "a\n"]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str):
    with pytest.raises(InvalidInput):
        check_name(name)
