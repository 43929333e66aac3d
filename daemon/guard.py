"""Who may ask: the bearer token, and no web page but our own.

A page of a foreign site can make a browser send requests to this machine. Its Origin gives it
away; where it had its own name resolve to 127.0.0.1 (DNS rebinding), its Host does. The token
is compared in constant time, and no answer allows another origin to read it
(tests/contract/http/test_security.py).
"""

from __future__ import annotations

import hashlib
import hmac
import re

from aiohttp import web
from aiohttp.typedefs import Middleware

from .problem import Handler, Refused

OPEN = frozenset({"/v1/health", "/healthz"})

_NAMES = ("127.0.0.1", "localhost", "[::1]")
_OUR_HOST = re.compile(rf"({'|'.join(re.escape(name) for name in _NAMES)})(:[0-9]{{1,5}})?", re.IGNORECASE)


def guard(token: str) -> Middleware:
    """Make the middleware that lets only the holder of the token pass."""
    wanted = token.encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        _check_address(request)
        resource = request.match_info.route.resource
        if not (resource and resource.canonical in OPEN):
            _check_token(request, wanted)
        return await handler(request)

    return check


def proof(token: str, nonce: str) -> str:
    """What only a holder of the token can answer to a nonce: HMAC-SHA256, in hexadecimal digits."""
    return hmac.new(token.encode(), nonce.encode(), hashlib.sha256).hexdigest()


def _check_address(request: web.Request) -> None:
    if not request.raw_path.startswith("/"):
        raise Refused(400, "name the address by its path alone")
    port = _local_port(request)
    hosts = request.headers.getall("Host", [])
    if port is not None and not (len(hosts) == 1 and _OUR_HOST.fullmatch(hosts[0])):
        raise Refused(403, "the Host of the request is not one of this machine's own names")
    own = {f"http://{name}:{port}" for name in _NAMES}
    # The port may be forwarded: then a page of our own has the origin that it was asked for.
    own |= {f"http://{host.lower()}" for host in hosts if _OUR_HOST.fullmatch(host)}
    if any(origin.lower() not in own for origin in request.headers.getall("Origin", [])):
        raise Refused(403, "requests from pages of other sites are refused")


def _local_port(request: web.Request) -> int | None:
    """The port that the request came in at; None for the Unix socket, which only its owner can open."""
    name = request.transport.get_extra_info("sockname") if request.transport else ("", 0)
    return name[1] if isinstance(name, tuple) else None


def _check_token(request: web.Request, wanted: bytes) -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if not hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), wanted) or scheme.lower() != "bearer":
        headers = {"WWW-Authenticate": 'Bearer realm="steno"'}
        raise Refused(401, "send the token of this home: Authorization: Bearer …", headers=headers)
