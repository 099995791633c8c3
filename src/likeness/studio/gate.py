"""Who may talk to the studio: whoever has its token, from its own page, by its own name.

Another page in the same browser reaches 127.0.0.1 as well, by its address or by a name that it points there
(DNS rebinding).  So every request, websockets among them, needs the cookie, a Host that is ours, and an
Origin that is ours where there is one; a websocket always has one."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; worker-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
NOTEBOOKS = "http://localhost:* http://127.0.0.1:*"
"""pages that may hold the studio in a frame, where somebody has asked for that"""
CLOSED = 4403
"""code of a websocket that is refused"""


def token(folder: Path) -> str:
    """The secret of a studio, in a file that others cannot read: the same after a restart, so that open pages
    go on."""
    file = folder / "token"
    try:
        known = file.read_text().strip()
        if len(known) >= 32 and known.isascii() and not file.stat().st_mode & 0o077:
            return known
    except (OSError, UnicodeDecodeError):
        pass
    made = secrets.token_urlsafe(32)
    file.unlink(missing_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(made)
    return made


class Gate:
    """Middleware.  hosts: names by which the studio may be called, with the port."""

    def __init__(self, app: ASGIApp, secret: str, hosts: Iterable[str], framed: bool = False):
        self.app, self.secret, self.hosts = app, secret, frozenset(hosts)
        port = next(iter(self.hosts)).rpartition(":")[2]
        self.cookie = f"likeness-{port}"
        """browsers give the cookies of one port to all others"""
        self.policy = f"{POLICY}; frame-ancestors {NOTEBOOKS if framed else chr(39) + 'none' + chr(39)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = _headers(scope)
        refused = None if headers is None else self._refused(scope, headers)
        if headers is None or refused is not None:
            why = refused or "Headers that nobody's browser sends."
            await _refuse(scope, receive, send, why)
            return
        if scope["type"] == "http" and scope["path"] == "/" and (response := self._opened(scope)) is not None:
            await response(scope, receive, self._with_headers(send))
            return
        if not self._has_cookie(headers):
            await _refuse(scope, receive, send, "Open the studio by the link that `likeness studio` printed.")
            return
        await self.app(scope, receive, self._with_headers(send) if scope["type"] == "http" else send)

    def _refused(self, scope: Scope, headers: dict[str, str]) -> str | None:
        if headers.get("host", "").lower() not in self.hosts:
            return "This studio is not called by that name."
        origin = headers.get("origin")
        own = {f"http://{host}" for host in self.hosts}
        if (origin is None and scope["type"] == "websocket") or (origin is not None and origin not in own):
            return "Another page may not use the studio."
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            return "The studio answers GET, and all else by its websocket."
        return None

    def _opened(self, scope: Scope) -> Response | None:
        """To the opening link: the cookie, and the page without the token in its address."""
        try:
            typed = parse_qs(scope.get("query_string", b"").decode("ascii"), max_num_fields=8)
        except ValueError:
            return None
        if not hmac.compare_digest(typed.get("token", [""])[0].encode(), self.secret.encode()):
            return None
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(self.cookie, self.secret, httponly=True, samesite="lax", path="/")
        return response

    def _has_cookie(self, headers: dict[str, str]) -> bool:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self.secret.encode())

    def _with_headers(self, send: Send) -> Send:
        async def out(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message.get("headers", [])}
                more = HEADERS | {"content-security-policy": self.policy}
                message["headers"] = [
                    *message.get("headers", []),
                    *((k.encode(), v.encode()) for k, v in more.items() if k.encode() not in there),
                ]
            await send(message)

        return out


def _headers(scope: Scope) -> dict[str, str] | None:
    """By name; None where Host or Origin stand there twice, or anything is no text."""
    out = dict[str, str]()
    try:
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            if key in out and key in ("host", "origin"):
                return None
            out[key] = f"{out[key]}; {value.decode('latin-1')}" if key in out else value.decode("latin-1")
    except UnicodeError:
        return None
    return out


async def _refuse(scope: Scope, receive: Receive, send: Send, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send(dict[str, Any](type="websocket.close", code=CLOSED, reason=why))
        return
    await PlainTextResponse(why + "\n", status_code=403, headers=HEADERS)(scope, receive, send)
