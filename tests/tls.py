"""TLS in front of a server that speaks none: a certificate of an authority of one's own, and a relay that shows it."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_ASKS_FOR_TLS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""What a client of PostgreSQL says first."""


def certificates(folder: Path) -> tuple[Path, Path]:
    """An authority's certificate, and one that it signed for 127.0.0.1, with its key: two files."""
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("An authority of one's own")
    authority = (
        _certificate(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        _certificate(_name("127.0.0.1"), authority_name, server_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key = server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    trusted, shown = folder / "authority.pem", folder / "server.pem"
    trusted.write_bytes(authority.public_bytes(pem))
    shown.write_bytes(server.public_bytes(pem) + key)
    return trusted, shown


@contextlib.contextmanager
def over_tls(url: str, shown: Path) -> Generator[int]:
    """Relay what comes over TLS to the server at an address; the port at which that is done."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown)
    place = urlsplit(url)
    address = (place.hostname or "", place.port or 0)
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threads.append(threading.Thread(target=_relay, args=(client, context, address)))
                    threads[-1].start()

        threads.append(threading.Thread(target=listen))
        threads[0].start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for each in threads:
        each.join(10)


def _relay(client: socket.socket, context: ssl.SSLContext, address: tuple[str, int]) -> None:
    client.settimeout(10)
    with client, contextlib.suppress(OSError):
        if client.recv(len(_ASKS_FOR_TLS), socket.MSG_PEEK) == _ASKS_FOR_TLS:
            client.recv(len(_ASKS_FOR_TLS))
            client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as secret, socket.create_connection(address) as server:
            back = threading.Thread(target=_copy, args=(server, secret))
            back.start()
            _copy(secret, server)
            back.join(10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    made = made.serial_number(x509.random_serial_number())
    return made.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
