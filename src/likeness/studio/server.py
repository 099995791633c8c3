"""The studio's server: the page, its files, images of runs, and the websocket; all behind the gate.

GET answers and changes nothing; whatever has an effect comes by the websocket."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..core import Refusal
from . import protocol
from .gate import HEADERS, Gate
from .hub import Client, Hub

PAGE = Path(__file__).parent / "page"
SHOWN = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".apng", ".html")
"""files of a run that a page may show"""
SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'"
)
"""for pages that runs hold: they may run their own lines, and reach nothing, not even the studio"""
PAGES = 100
"""websockets at once"""


def application(hub: Hub, secret: str, hosts: tuple[str, ...], framed: bool = False) -> Starlette:
    """hosts: names of the studio, with its port.  framed: whether a notebook may hold it in a frame."""

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        await hub.open()
        yield
        await hub.close()

    routes = [
        Route("/", _index),
        Route("/page/{name:path}", _static),
        Route("/files/{name:path}", _file),
        WebSocketRoute("/wire", _wire),
    ]
    app = Starlette(routes=routes, lifespan=life)
    app.state.hub = hub
    app.add_middleware(Gate, secret=secret, hosts=hosts, framed=framed)
    return app


async def _index(_: Request) -> Response:
    """The page, with the files that it begins with.  A screen is there by the presence of its file; where
    there is one of that name in screens/about, that alone is loaded, and the rest when it is opened."""
    screens = [
        f"about/{p.stem}" if (p.parent / "about" / p.name).is_file() else p.stem
        for p in sorted((PAGE / "screens").glob("*.js"))
    ]
    first = _imported(["app.js", *(f"screens/{name}.js" for name in screens)])
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    preload = "\n".join(f'<link rel="modulepreload" href="/page/{m}">' for m in first)
    text = text.replace("<!-- modules -->", preload).replace("SCREENS", " ".join(screens))
    return Response(text, media_type="text/html", headers={"cache-control": "no-cache"})


def _imported(names: list[str]) -> list[str]:
    """Modules of the page, with all that they import at once, so that no round trip finds out what is next;
    `import(...)` is of what comes later."""
    there = dict[str, None]()
    while names:
        name = names.pop()
        if name in there:
            continue
        there[name] = None
        file = PAGE / name
        near = re.findall(r'^import (?:[^";]* from )?"(\.[^"]+)";', file.read_text("utf-8"), re.M)
        names += [(file.parent / one).resolve().relative_to(PAGE.resolve()).as_posix() for one in near]
    return sorted(there)


async def _static(request: Request) -> Response:
    file = _within(PAGE, request.path_params["name"])
    if file is None or file.suffix not in (".js", ".css", ".html", ".svg"):
        return PlainTextResponse("There is no such file.\n", 404)
    return FileResponse(file, media_type=_kind(file), headers={"cache-control": "no-cache"})


async def _file(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    file = _within(hub.root, request.path_params["name"])
    if file is None or file.suffix.lower() not in SHOWN:
        return PlainTextResponse("There is no such picture in the folder of the studio.\n", 404)
    headers = {"cache-control": "private, no-cache"}
    if file.suffix == ".html":
        headers["content-security-policy"] = SANDBOX
    return FileResponse(file, media_type=_kind(file), headers=headers)


def _within(root: Path, name: str) -> Path | None:
    with contextlib.suppress(Refusal, OSError):
        file = protocol.confined(root, name)
        return file if file.is_file() else None
    return None


def _kind(file: Path) -> str:
    known = {".js": "text/javascript", ".css": "text/css", ".apng": "image/apng"}
    return known.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"


async def _wire(websocket: WebSocket) -> None:
    """One page: what it says goes to the hub, and what it is to get comes from there."""
    hub: Hub = websocket.app.state.hub
    await websocket.accept()
    if len(hub.clients) >= PAGES:
        await websocket.close(4429, "too many pages are open")
        return

    client = Client(websocket.send_bytes)
    sending = asyncio.ensure_future(_serve(hub, client, websocket))
    try:
        while not client.gone:
            message = await websocket.receive()
            if message["type"] != "websocket.receive":
                break
            _take(hub, client, message.get("bytes") or b"")
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        hub.leave(client)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending


async def _serve(hub: Hub, client: Client, websocket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
        await hub.serve(client)
        await websocket.close(4429, "the page left too much unread")


def _take(hub: Hub, client: Client, frame: bytes) -> None:
    try:
        hub.take(client, frame)
    except Refusal as refusal:
        client.reply(dict(type="error", id="", key="", what=f"Refused: {refusal}", why="", do=""))


def listening(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 is any free one.  Raises Refusal."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise Refusal(
            f"port {port} of {host} cannot be used ({error.strerror}); name another with --port, or leave it "
            "out for a free one."
        ) from None
    return sock


def names(host: str, port: int) -> tuple[str, ...]:
    """By which a browser may call the studio: those of loopback, and the host where it is another."""
    own = ["127.0.0.1", "localhost", "[::1]"]
    return tuple(f"{name}:{port}" for name in dict.fromkeys([*own, f"[{host}]" if ":" in host else host]))


def serve(app: Starlette, sock: socket.socket, started: Callable[[], None] | None = None) -> None:
    """Until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=protocol.FRAME,
        ws_per_message_deflate=False,
        log_level="error",
        lifespan="on",
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    server = _Server(config, started)
    server.run(sockets=[sock])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None] | None):
        super().__init__(config)
        self._when_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._when_started is not None:
            self._when_started()


__all__ = ["HEADERS", "application", "listening", "names", "serve"]
