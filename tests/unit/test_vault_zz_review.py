"""Scratch."""
from __future__ import annotations
import asyncio
from pathlib import Path
import pytest
from steno.storage.errors import RemoteRefused, RemoteUnreachable
from steno.storage.purge import purge_history, purge_message, purge_session
from steno.sync.vault.healing import WAIT_MS
from steno.sync.vault.names import SegmentName, LOG, new_id
from steno.sync.vault.rewriting import GRACE_MS
from steno.sync.vault.compaction import Published, choose
from steno.tests.unit.vaults import Device, Vault
from steno.tests.unit.test_vault_healing import vault, laptop, desktop, lose, of, healed, state
from steno.tests.unit.test_vault_rewriting import said, chatty, SECRET


async def test_writers_of_own_healing(vault, laptop, desktop):
    session = laptop.session("one")
    await laptop.sync(); await desktop.sync()
    lose(vault, *of(laptop))
    await healed(vault, desktop)
    content, claim = of(desktop)[0], of(desktop)[-1]
    assert content != claim
    lose(vault, content)
    await healed(vault, desktop)
    fresh = vault.device("fresh")
    await fresh.sync()
    assert fresh.store.find(session) is not None


async def test_purge_while_healing(vault, laptop, desktop):
    a = laptop.session("x" * 10); b = laptop.session(SECRET)
    await laptop.sync(); await desktop.sync()
    lose(vault, *of(laptop))
    healer = desktop.engine._healer
    send = healer._send
    done = []
    from steno.sync.vault import healing
    orig = healer._publish
    async def publish(content, stands_for):
        if not done:
            done.append(1); purge_session(desktop.store, b)
        await orig(content, stands_for)
    healer._publish = publish
    await healed(vault, desktop)
    await desktop.sync(); await desktop.engine.tend()
    assert done
    assert SECRET.encode() not in said(vault)


async def test_rolled_back(vault, laptop, desktop):
    session = await chatty(laptop, 100)
    extra = laptop.session(SECRET)
    await laptop.sync()
    backup = dict(vault.remote.objects)
    await laptop.engine.tend()
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    purge_session(laptop.store, extra)
    await laptop.sync()
    assert SECRET.encode() not in said(vault)
    vault.remote.objects.clear(); vault.remote.objects.update(backup)
    print(await laptop.sync())
    await healed(vault, laptop)
    for _ in range(3):
        vault.clock_ms += GRACE_MS + 1
        print((await laptop.engine.tend()).problems)
    await chatty(laptop, 40, session)
    report = await laptop.engine.tend()
    assert report.problems == []
    vault.clock_ms += GRACE_MS + 1
    await laptop.engine.tend()
    assert SECRET.encode() not in said(vault)
    print(len(vault.log()))
    await desktop.sync()
    assert desktop.contents(session) == laptop.contents(session)
    assert len(vault.log()) < 40


async def test_late_put_zombie(vault, laptop, desktop):
    session = await chatty(laptop, 40)
    s2 = laptop.session(SECRET); await laptop.sync()
    kept = {}
    def fails(verb, name):
        n = SegmentName.parse(name)
        if verb == "put" and n is not None and n.level > 0 and not kept:
            kept[name] = None
            return RemoteUnreachable(remote="m", reason="timed out")
        return None
    laptop.remote.fails = fails
    seal = laptop.engine._sealer.close
    def close(content, *, name, **o):
        r = seal(content, name=name, **o); got[name] = r; return r
    got = {}
    laptop.engine._sealer.close = close
    with pytest.raises(RemoteUnreachable):
        await laptop.engine.tend()
    await laptop.engine.tend()
    [name] = kept
    vault.remote.objects[name] = got[name]  # it arrives late
    purge_session(laptop.store, s2)
    await laptop.sync(); vault.clock_ms += GRACE_MS; await laptop.engine.tend(); await laptop.sync(); await laptop.engine.tend()
    assert SECRET.encode() not in said(vault)


async def test_unsettled_no_heal(vault, laptop, desktop, tmp_path):
    session = laptop.session("one"); await laptop.sync()
    other = desktop.session("two"); await desktop.sync()
    await laptop.sync()
    # something strange under laptop's id that does not open
    name = SegmentName(laptop.store.device, 2, 2, 0, "z" * 12).path
    vault.remote.objects[name] = b"junk"
    lose(vault, *of(desktop))
    before = laptop.store.device
    await healed(vault, laptop)
    mine = [n for n in of(laptop)]
    assert [n for n in mine if ".2-2." in n] == [name]


async def test_heal_resumes(vault, laptop, desktop):
    ids = [laptop.session(f"{n}" * 10) for n in range(6)]
    await laptop.sync(); await desktop.sync()
    lose(vault, *of(laptop))
    from steno.sync.vault import healing
    import unittest.mock as m
    with m.patch.object(healing, "SEGMENT_BYTES", 5):
        vault.clock_ms += 1; await desktop.sync(); vault.clock_ms += 2 * WAIT_MS + 10
        count = [0]
        def fails(verb, name):
            if verb == "put":
                count[0] += 1
                if count[0] % 2 == 0:
                    return RemoteUnreachable(remote="m", reason="timed out")
            return None
        desktop.remote.fails = fails
        for _ in range(30):
            try:
                await desktop.sync()
            except RemoteUnreachable:
                pass
    print(len(of(desktop)))
    assert len(of(desktop)) <= 12
    desktop.remote.fails = lambda *_: None
    fresh = vault.device("fresh")
    assert (await fresh.sync()).problems == []
    assert state(fresh.store) == state(desktop.store)


async def test_purge_between_parts(vault, laptop, desktop):
    ids = [laptop.session(f"{n}" * 10) for n in range(6)]
    await laptop.sync(); await desktop.sync()
    lose(vault, *of(laptop))
    from steno.sync.vault import healing
    import unittest.mock as m
    healer = desktop.engine._healer
    orig = healer._publish
    async def publish(content, stands_for):
        if desktop.store.find(ids[4]) is not None:
            purge_session(desktop.store, ids[4])
        await orig(content, stands_for)
    healer._publish = publish
    with m.patch.object(healing, "SEGMENT_BYTES", 5):
        await healed(vault, desktop)
    fresh = vault.device("fresh")
    assert (await fresh.sync()).problems == []
    assert state(fresh.store) == state(desktop.store)


async def test_clock_back_purge(vault, laptop):
    s = await chatty(laptop, 100)
    t = laptop.session(SECRET); await laptop.sync()
    vault.clock_ms += 10**10
    await laptop.engine.tend()
    vault.clock_ms -= 10**10
    purge_session(laptop.store, t)
    await laptop.sync()
    assert SECRET.encode() not in said(vault)


async def test_pending_is_not_lost(vault, laptop):
    laptop.session("one"); await laptop.sync()
    laptop.remote.fails = lambda verb, name: RemoteRefused(remote="m", reason="507") if verb == "put" else None
    laptop.session("two")
    try: await laptop.sync()
    except RemoteRefused: pass
    report = await laptop.engine.pull()
    print(report)
    assert report.problems == []


async def test_retire_with_refused(vault, laptop, desktop):
    import msgspec
    s = desktop.session("one"); await desktop.sync()
    await laptop.sync()
    name = of(desktop)[0]
    laptop.engine._ledger.set_aside(name, "1 records refused", now_ms=vault.now())
    orig = laptop.engine._due
    laptop.engine._due = lambda *a: False
    with pytest.raises(Exception):
        await laptop.engine.retire(desktop.store.device)
    assert name in vault.remote.objects


async def test_retire_then_comes_back(vault, laptop, desktop):
    s = desktop.session("one"); await desktop.sync(); await laptop.sync()
    desktop.add(s, "unsent")
    await laptop.engine.retire(desktop.store.device)
    print(await desktop.sync())
    await desktop.engine.tend()
    for i in range(60):
        desktop.add(s, f"later {i}"); await desktop.engine.push()
    r = await desktop.engine.tend()
    vault.clock_ms += GRACE_MS + 1
    r = await desktop.engine.tend()
    assert r.problems == []
    fresh = vault.device("fresh")
    assert (await fresh.sync()).problems == []
    await laptop.sync()
    assert fresh.contents(s) == desktop.contents(s) == laptop.contents(s)


async def test_two_retire(vault, laptop, desktop):
    third = vault.device("third")
    s = third.session("one"); await third.sync(); await laptop.sync(); await desktop.sync()
    await asyncio.gather(laptop.engine.retire(third.store.device), desktop.engine.retire(third.store.device))
    fresh = vault.device("fresh")
    assert (await fresh.sync()).problems == []
    assert fresh.contents(s) == ["one"]
    for _ in range(3):
        await healed(vault, laptop, desktop, fresh)
    assert len(vault.log()) < 8


async def test_purge_healer_unaware(vault, laptop, desktop):
    third = vault.device("third")
    s = third.session(SECRET); await third.sync(); await laptop.sync(); await desktop.sync()
    lose(vault, *of(third))
    vault.clock_ms += 1
    await desktop.sync(); vault.clock_ms += 2 * WAIT_MS + 1
    purge_session(laptop.store, s)
    await desktop.sync()   # heals, unaware
    await laptop.sync(); await desktop.sync(); await third.sync(); await third.sync(); await laptop.sync()
    assert SECRET.encode() not in said(vault)


async def test_history_purge_then_edit(vault, laptop, desktop):
    s = laptop.session(SECRET); await laptop.sync(); await desktop.sync()
    m = next(iter(laptop.store.messages(s))).id
    laptop.store.edit(s, m, "new text") if hasattr(laptop.store, "edit") else None


async def test_recreate_after_purge(vault, laptop, desktop):
    laptop.store.create(id="s"); laptop.add("s", SECRET); await laptop.sync()
    purge_session(laptop.store, "s")
    laptop.store.create(id="s"); laptop.add("s", "second life")
    await laptop.sync()
    assert SECRET.encode() not in said(vault)
    await desktop.sync()
    assert desktop.contents("s") == ["second life"]


async def test_gap_behind_claim(vault, laptop, desktop):
    """A claim whose content did not arrive must not fill the gap for deletions."""
    third = vault.device("third")
    s = laptop.session("one"); await laptop.sync()
    await desktop.sync()
    first = of(laptop)[0]
    laptop.add(s, "two"); await laptop.sync(); await desktop.sync()
    lose(vault, first)
    await healed(vault, desktop)
    content = of(desktop)[0]
    hidden = vault.remote.objects.pop(content)
    r = await third.sync()
    print(r.problems, third.contents(s))
    third.store.delete(s) if hasattr(third.store, "delete") else None
    await third.sync()
    vault.remote.objects[content] = hidden
    await third.sync(); await laptop.sync(); await desktop.sync()
    print(laptop.contents(s), laptop.store.find(s))
    assert "one" in laptop.contents(s)


def test_choose_many():
    import time
    own=[Published(SegmentName("a"*12,i,i,0,"b"*12),300) for i in range(1,5001)]
    t=time.perf_counter(); choose(own); assert time.perf_counter()-t < 3
