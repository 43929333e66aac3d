"""How far a long sync is, said in values; and a bootstrap that was cut off goes on where it was."""

from __future__ import annotations

import pytest

from steno.storage.errors import RemoteUnreachable
from steno.sync.vault import sending
from steno.sync.vault.names import LOG
from steno.sync.vault.progress import Course, Progress
from steno.tests.unit.vaults import Device, Vault


@pytest.fixture
async def history(laptop: Device, monkeypatch: pytest.MonkeyPatch) -> str:
    """A session that went to the remote in many segments."""
    monkeypatch.setattr(sending, "SEGMENT_BYTES", 2000)
    return laptop.session(*(f"{at} " + "x" * 300 for at in range(60)))


async def test_a_bootstrap_says_after_each_segment_how_far_it_is(laptop: Device, desktop: Device, history: str):
    await laptop.sync()
    said: list[Progress] = []
    desktop.engine.course.told = said.append
    await desktop.sync()
    total = len(laptop.vault.log())
    assert [(each.doing, each.done, each.total) for each in said] == [
        ("receiving", done, total) for done in range(total + 1)
    ]
    assert said[-1].messages == 60
    assert said[-1].size_bytes == sum(map(len, (laptop.vault.remote.objects[name] for name in laptop.vault.log())))
    assert desktop.engine.course.now is None


async def test_a_first_push_says_how_much_of_the_feed_is_sent(laptop: Device, history: str):
    said: list[Progress] = []
    laptop.engine.course.told = said.append
    report = await laptop.sync()
    done = [each.done for each in said]
    assert {each.doing for each in said} == {"sending"}
    assert done == sorted(done)
    assert said[-1].done == said[-1].total
    assert said[-1].size_bytes == report.sent_bytes


async def test_what_goes_in_one_segment_is_not_worth_a_word(laptop: Device, desktop: Device):
    said: list[Progress] = []
    for device in (laptop, desktop):
        device.engine.course.told = said.append
    laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    assert said == []


def test_the_rest_takes_as_long_as_what_is_done_took():
    now = iter([0, 1000, 3000])
    course = Course(lambda: next(now))
    course.begin("receiving", total=10)
    course.reached(1, size_bytes=5)
    assert course.now == Progress("receiving", 1, 10, 5, 0, rest_s=9.0)
    course.reached(5, size_bytes=5, messages=2)
    assert course.now == Progress("receiving", 5, 10, 10, 2, rest_s=3.0)


@pytest.mark.fault(2, 32)
async def test_a_bootstrap_that_was_cut_off_goes_on_where_it_was(
    laptop: Device, desktop: Device, vault: Vault, history: str
):
    await laptop.sync()
    total = len(vault.log())
    gets = iter(range(total))

    def fails(verb: str, name: str) -> RemoteUnreachable | None:
        is_late = verb == "get" and name.startswith(LOG) and next(gets) >= total // 2
        return RemoteUnreachable(remote="memory", reason="cut off") if is_late else None

    desktop.remote.fails = fails
    with pytest.raises(RemoteUnreachable):
        await desktop.sync()
    desktop.remote.fails = lambda *_: None
    desktop.restart()
    desktop.asked()
    await desktop.engine.pull()
    assert desktop.asked() == {"list": 1, "get": total - total // 2 + 1}  # vault.json too
    assert desktop.contents(history) == laptop.contents(history)
