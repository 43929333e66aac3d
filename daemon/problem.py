"""Errors over HTTP: problem details (RFC 9457), whatever went wrong.

``code`` is the name of the error, for programs; ``title`` says what kind of thing happened,
``detail`` what happened here. Nothing of a traceback, a path of the code or a token is in an
answer (tests/contract/http/test_problems.py).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from ..storage.errors import StenoError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Of every answer: not for caches, not for guessing at, and nothing of what it is made with.
HEADERS = {"Cache-Control": "no-store", "Server": "steno", "X-Content-Type-Options": "nosniff"}
MAX_DETAIL_CHARACTERS = 1000

_STATUS_OF_EXIT_CODE = {3: 404, 4: 400, 5: 409, 6: 502, 7: 403, 8: 409}
# Written out: the names that Python's http module gives some of them changed in 3.13.
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    500: "Internal Server Error",
}
_DETAILS = {
    404: "there is nothing at this address",
    405: "this address does not take this method",
    413: "the body is larger than 16 MiB; send it in parts",
    500: "something went wrong inside steno; its log says what",
}

_log = logging.getLogger("steno.http")


class Refused(Exception):
    """A request that HTTP itself has a status for; never a fault of the data."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error of a handler with a problem; an unforeseen one is logged and not shown."""
    try:
        return await handler(request)
    except StenoError as exc:
        return problem_of(exc)
    except Refused as exc:
        return problem(exc.status, str(exc), headers=exc.headers)
    except web.HTTPException as exc:
        allow = exc.headers.get("Allow")
        return problem(exc.status, headers={"Allow": allow} if allow else None)
    except Exception:  # noqa: BLE001  a bug must not end the connection without an answer
        resource = request.match_info.route.resource
        _log.exception("%s %s failed", request.method, resource.canonical if resource else "")
        return problem(500)


def problem(status: int, detail: str | None = None, *, headers: Mapping[str, str] | None = None) -> web.Response:
    """A problem that the status alone describes."""
    title = _TITLES.get(status, "Error")
    members = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": _shown(detail or _DETAILS.get(status, title)),
        "code": title.replace(" ", ""),
    }
    return _answer(status, members, headers)


def problem_of(error: StenoError) -> web.Response:
    """The problem that says an error of steno; our own client makes the error of it again."""
    status = _STATUS_OF_EXIT_CODE.get(error.exit_code, 503 if error.retryable else 409)
    code = type(error).__name__
    members = {
        "type": f"urn:steno:error:{code}",
        "title": (type(error).__doc__ or code).strip().splitlines()[0],
        "status": status,
        "detail": _shown(str(error)),
        "code": code,
        "hint": _shown(error.hint) or None,
        "exit_code": error.exit_code,
        "retryable": error.retryable,
    }
    return _answer(status, members)


def _shown(text: str) -> str:
    """Text on one line that JSON can carry: an error may quote what a client sent."""
    line = " ".join(text[: 2 * MAX_DETAIL_CHARACTERS].split())
    if len(line) > MAX_DETAIL_CHARACTERS:
        line = line[: MAX_DETAIL_CHARACTERS - 1] + "…"
    return line.encode("utf-8", "replace").decode()


def _answer(status: int, members: dict[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(members)
    all_headers = {**HEADERS, **(headers or {})}
    return web.Response(status=status, body=body, content_type="application/problem+json", headers=all_headers)
