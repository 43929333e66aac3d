"""Remotes over TLS with an authority of one's own: refused in one line that says why, and trusted where it is named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from steno.storage.errors import RemoteUnreachable
from steno.sync.vault.remote import open_remote
from steno.sync.vault.trust import on_the_certificate
from steno.tests.server_fixtures import S3_SETTINGS
from steno.tests.tls import certificates, over_tls

KINDS = ("webdav", "s3", "redis", "postgres")


class Place(NamedTuple):
    """An address over TLS, and the file of the authority that signed the certificate which is shown there."""

    kind: str
    url: str
    authority: Path


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    authority, shown = certificates(tmp_path)
    plain = {"webdav": "wsgidav_url", "s3": "s3_url", "redis": "redis_url", "postgres": "postgres_url"}[request.param]
    found: str = request.getfixturevalue(plain)
    server = found.partition("endpoint=")[2] if request.param == "s3" else found.removeprefix("webdav+")
    with over_tls(server, shown) as port:
        url = _over_tls(request.param, found, server, port)
        yield Place(request.param, url, authority)


def _over_tls(kind: str, found: str, server: str, port: int) -> str:
    host = server.partition("://")[2].partition("/")[0]
    url = found.replace(host, f"{host.rpartition(':')[0]}:{port}")
    if kind == "postgres":
        return f"{url}?sslmode=verify-full"
    return url.replace("redis://", "rediss://").replace("http://", "https://")


def _init(place: Place, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Make a vault there, by the command, as a person does."""
    known = {name: value for name, value in os.environ.items() if name not in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    more = {"HOME": str(home), "STENO_HOME": str(home / "device"), "STENO_PASSPHRASE": "p", **S3_SETTINGS}
    return subprocess.run(
        [str(Path(sys.executable).parent / "steno"), "init", "--remote", place.url],
        env={**known, **more, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_server_whose_authority_nobody_trusts_is_refused_in_one_line_that_says_what_to_do(
    place: Place, tmp_path: Path
):
    done = _init(place, tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (6, "", 1)
    where = "?sslrootcert= in the address" if place.kind == "postgres" else "SSL_CERT_FILE in the environment"
    assert f"nobody whom this machine trusts signed its certificate: {where} names an authority" in done.stderr


def test_a_server_is_trusted_whose_authority_is_named(place: Place, tmp_path: Path):
    if place.kind == "postgres":
        named = place._replace(url=f"{place.url}&sslrootcert={place.authority}")
        done = _init(named, tmp_path)
    else:
        done = _init(place, tmp_path, SSL_CERT_FILE=str(place.authority))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('certificate not valid for name "a"; certificate is only valid for DnsName("b")', "is for another name"),
        ("certificate verify failed: Hostname mismatch, certificate is not valid for 'a'.", "is for another name"),
        ('server certificate for "a" does not match host name "b"', "is for another name"),
        ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "shows the certificate of an authority"),
        ("certificate verify failed: certificate has expired", "is this machine's clock right?"),
        ("certificate verify failed: self-signed certificate", "nobody whom this machine trusts"),
        ("tcp connect error: Connection refused (os error 111)", None),
    ],
)
def test_what_is_wrong_with_a_certificate_is_told_apart(text: str, said: str | None):
    assert said in on_the_certificate(text) if said else on_the_certificate(text) == ""


async def test_a_file_of_authorities_that_is_not_there_is_named(redis_url: str, tmp_path: Path):
    settings = {"STENO_REDIS_SSL_CA_CERTS": str(tmp_path / "none.pem")}
    remote = open_remote(redis_url.replace("redis://", "rediss://"), environ=settings)
    with pytest.raises(RemoteUnreachable, match="STENO_REDIS_SSL_CA_CERTS names no file"):
        await remote.list("log/")
    await remote.close()
