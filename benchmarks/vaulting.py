"""A whole history to a folder remote and into a second device, against git with the JSONL files and a bare pipeline.

The two homes, the remote and git's repositories then serve for what one message more costs (`single`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import single
from histories import EACH, check_equal, size_of, write_files, write_history
from homes import Home, pair
from measure import Bench, Figure, LeftOut, Noted, seconds_of
from peers import Git

from steno.storage.store import Store

GOAL, GOAL_BARE, GOAL_MB = 0.35, 2.0, 150.0
_BARE = Path(__file__).with_name("bare.py")


def figures(bench: Bench) -> list[Figure | LeftOut | Noted]:
    """Push into a new vault in a folder and pull into an empty store; git: add, commit, push to a bare one, clone."""
    sessions = bench.scale.kept
    many = f"{sessions:,} sessions, {sessions * EACH:,} messages"
    remote = bench.folder / "remote"
    near, far = pair(bench.folder, str(remote))
    write_history(near.database, sessions)
    write_files(near.database, near.sessions)
    jsonl = size_of(near.sessions)
    bench.say(f"{jsonl / 1e6:,.0f} MB of JSONL files")
    push, pull = near.synced("push"), far.synced("pull")
    check_equal(near.database, far.database)
    bare = _bare_pull(near.database, bench.folder / "bare.db")
    bench.say(f"push {push.took_s:.1f} s, pull {pull.took_s:.1f} s, bare pull {bare:.1f} s")
    written = seconds_of(lambda: write_files(far.database, far.sessions))
    log = remote / "log"
    sent = size_of(log), len(list(log.iterdir()))
    compact = near.synced("compact")
    third = Home(bench.folder / "c")
    third.steno("join", str(remote))
    later = third.synced("pull")
    shutil.rmtree(third.folder)
    bench.say(f"compaction {compact.took_s:.1f} s, pull after it {later.took_s:.1f} s")
    rows: list[Figure | LeftOut | Noted] = [
        Figure(
            what=f"bootstrap of {many}", ours=f"{pull.took_s:.1f} s", yardstick=f"{bare:.1f} s",
            value=pull.took_s / bare, goal=GOAL_BARE,
        ),
        Figure(
            what=f"memory for the bootstrap of {many}", ours=f"{pull.most_mb:.0f} MB", yardstick="-",
            value=pull.most_mb, goal=GOAL_MB, unit="MB",
        ),
        Figure(
            what="memory for it after compaction", ours=f"{later.most_mb:.0f} MB", yardstick="-", value=later.most_mb,
            goal=GOAL_MB, unit="MB",
        ),
        Noted("its files written on the second device", f"{written:.1f} s"),
        Noted("bytes on the remote, of the JSONL files", f"{sent[0] / jsonl:.3f} x"),
        Noted("objects in the log", f"{sent[1]:,}, after compaction {len(list(log.iterdir())):,}"),
        Noted("compaction of it", f"{compact.took_s:.1f} s, at most {compact.most_mb:.0f} MB"),
    ]  # fmt: skip
    what = f"first push + bootstrap of {many}"
    if shutil.which("git") is None:
        why = "git is not installed"
        return [LeftOut(what, why), *rows, *single.left_out(sessions * EACH, why)]
    git = Git(bench.folder, near.sessions)
    took = seconds_of(git.whole)
    ours = push.took_s + pull.took_s
    first = Figure(what=what, ours=f"{ours:.1f} s", yardstick=f"{took:.1f} s", value=ours / took, goal=GOAL)
    return [first, *rows, *single.figures(bench, near, far, git, messages=sessions * EACH)]


def _bare_pull(source: Path, target: Path) -> float:
    """Seconds of the bare pipeline, in a process of its own as well."""
    Store(target).close()
    done = subprocess.run([sys.executable, str(_BARE), str(source), str(target)], check=True, stdout=subprocess.PIPE)
    target.unlink()
    return json.loads(done.stdout)["pull_s"]
