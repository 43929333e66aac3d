"""A history to an S3 server at the end of a slow line and into a second device, against rclone and the JSONL files.

The server is moto behind our proxy. How long rclone takes without the proxy is noted: as much of its time is the
server's, and ours asks the server so seldom that it does not matter.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from histories import EACH, check_equal, size_of, write_files, write_history
from homes import pair
from measure import Bench, Figure, LeftOut, Noted, seconds_of
from peers import run
from proxy import Counted, proxy
from s3 import PASSWORD, SETTINGS, USER, bucket_at, make_bucket

from steno.tests.servers import Missing, start_s3

GOAL = 0.3
ROUND_TRIP_S, BITS_PER_S = 0.02, 100e6
TRANSFERS = 8


def figures(bench: Bench) -> list[Figure | LeftOut | Noted]:
    """Push and bootstrap; rclone: copy there and back."""
    sessions = bench.scale.sent
    what = f"20 ms, 100 Mbit/s, S3: push + bootstrap of {sessions:,} sessions, {sessions * EACH:,} messages"
    if shutil.which("rclone") is None:
        return [LeftOut(what, "rclone is not installed")]
    try:
        server = start_s3()
    except Missing as missing:
        return [LeftOut(what, str(missing))]
    with server, proxy(server.url, round_trip_s=ROUND_TRIP_S, bits_per_s=BITS_PER_S) as slow:
        url = slow.at(server.url)
        near, far = pair(bench.folder, bucket_at(url), **SETTINGS)
        write_history(near.database, sessions)
        write_files(near.database, near.sessions)
        before = slow.count()
        push, pull = near.synced("push"), far.synced("pull")
        ours = slow.count().since(before)
        check_equal(near.database, far.database)
        before = slow.count()
        rclone = _rclone(bench, near.sessions, url)
        theirs = slow.count().since(before)
        direct = _rclone(bench, near.sessions, server.url)
    took = push.took_s + pull.took_s
    bench.say(f"push {push.took_s:.1f} s, pull {pull.took_s:.1f} s, at most {pull.most_mb:.0f} MB")
    return [
        Figure(what=what, ours=f"{took:.1f} s", yardstick=f"{rclone:.1f} s", value=took / rclone, goal=GOAL),
        Noted("bytes and requests of it", _said(ours)),
        Noted("bytes and requests of rclone", _said(theirs)),
        Noted("rclone with the same server and no line before it", f"{direct:.1f} s"),
    ]


def _rclone(bench: Bench, files: Path, endpoint: str) -> float:
    """Seconds that rclone takes to copy a directory into an empty bucket, and to another directory."""
    back = bench.folder / "back"
    place = f":s3,provider=Other,endpoint='{endpoint}',access_key_id={USER},secret_access_key={PASSWORD}:"
    bucket = f"{place}{make_bucket(endpoint)}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}

    def copy(source: str, target: str) -> None:
        run(["rclone", "copy", "--transfers", str(TRANSFERS), "--config", os.devnull, source, target], env=environment)

    def there_and_back() -> None:
        copy(str(files), bucket)
        copy(bucket, str(back))

    took = seconds_of(there_and_back)
    assert size_of(back) == size_of(files), "rclone left something out"
    shutil.rmtree(back)
    return took


def _said(counted: Counted) -> str:
    return f"{counted.size_bytes / 1e6:,.1f} MB, {counted.turns:,} requests"
