"""An S3 server for what is measured over one: moto, whose buckets lie in memory and which lets anybody in."""

from __future__ import annotations

import secrets
from http.client import HTTPConnection
from urllib.parse import urlsplit

USER, PASSWORD = "ada", "made-up-for-benchmarks"
SETTINGS = {"STENO_S3_ACCESS_KEY_ID": USER, "STENO_S3_SECRET_ACCESS_KEY": PASSWORD}


def make_bucket(endpoint: str) -> str:
    """Make an empty bucket, and name it."""
    bucket, place = f"bench-{secrets.token_hex(6)}", urlsplit(endpoint)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=10)
    connection.request("PUT", f"/{bucket}")
    assert connection.getresponse().status == 200
    connection.close()
    return bucket


def bucket_at(endpoint: str) -> str:
    """The address of a remote in a new bucket."""
    return f"s3://{make_bucket(endpoint)}/vault?region=us-east-1&endpoint={endpoint}"
