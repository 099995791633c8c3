"""Who is let in: HTTP and websocket alike, and nobody else."""

from __future__ import annotations

import contextlib
import http.client
import random
import urllib.parse

import pytest

from likeness.cli import main
from likeness.studio import protocol
from likeness.studio.gate import token

from .test_wire import MANY


def got(studio, path="/", method="GET", **headers):
    """Status, headers and body; the cookie and the right Host unless told otherwise."""
    wire = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=20)
    own = {"Host": f"127.0.0.1:{studio.port}", "Cookie": f"likeness-{studio.port}={secret(studio)}"}
    own |= {k.replace("_", "-"): v for k, v in headers.items()}
    wire.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in own.items():
        if value is not None:
            wire.putheader(name, value)
    wire.endheaders()
    answer = wire.getresponse()
    body = answer.read()
    wire.close()
    return answer.status, dict(answer.getheaders()), body


def secret(studio) -> str:
    return urllib.parse.parse_qs(urllib.parse.urlparse(studio.link).query)["token"][0]


def wired(studio, **more):
    from websockets.sync.client import connect

    own = {"Cookie": f"likeness-{studio.port}={secret(studio)}"} | {
        k: v for k, v in more.items() if v and k == "Cookie"
    }
    if "Cookie" in more and more["Cookie"] is None:
        own = {}
    origin = more.get("Origin", studio.address)
    return connect(
        f"ws://{more.get('Host', '127.0.0.1')}:{studio.port}/wire", origin=origin, additional_headers=own
    )


def test_the_link_gives_the_cookie_once_and_takes_the_token_out_of_the_address(studio):
    status, headers, _ = got(studio, f"/?token={secret(studio)}", Cookie=None)
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and secret(studio).lower() in cookie
    status, headers, body = got(studio)
    assert status == 200 and b"likeness studio" in body and secret(studio).encode() not in body
    policy = headers["content-security-policy"]
    assert (
        policy.startswith("default-src 'self'")
        and "unsafe" not in policy
        and "frame-ancestors 'none'" in policy
    )


@pytest.mark.parametrize(
    "headers",
    [
        dict(Cookie=None),
        dict(Cookie="likeness-1=x"),
        dict(Host="evil.example"),
        dict(Host="127.0.0.1"),
        dict(Host="127.0.0.1:1"),
        dict(Host=None),
        dict(Origin="http://evil.example"),
        dict(Origin="null"),
        dict(Origin="http://127.0.0.1:1"),
    ],
    ids=str,
)
def test_another_name_another_page_or_no_cookie_is_refused(studio, headers):
    for path in ("/", "/page/app.js", "/files/vae-digits/config.json", "/wire"):
        status, _, body = got(studio, path, **headers)
        assert status in (400, 403) and b"Traceback" not in body, path


@pytest.mark.parametrize(
    "how",
    [dict(Cookie=None), dict(Origin="http://evil.example"), dict(Origin=None), dict(Origin="null")],
    ids=str,
)
def test_a_websocket_needs_the_cookie_and_its_own_page(studio, how):
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as refused, wired(studio, **how):
        pass
    assert refused.value.response.status_code == 403
    with wired(studio) as wire:
        wire.send(protocol.pack(dict(type="recall", key="nosuch")))
        assert protocol.unpack(wire.recv())[0] == {"type": "recalled", "key": "nosuch", "value": None}


def test_nothing_but_get_is_answered_and_a_wrong_token_is_no_token(studio):
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        assert got(studio, "/", method)[0] == 403
    assert got(studio, "/?token=wrong", Cookie=None)[0] == 403
    assert got(studio, "/?token=" + "&token=" * 99, Cookie=None)[0] == 403


def test_pictures_of_runs_are_shown_and_no_other_file(studio):
    status, headers, body = got(studio, "/files/vae-digits/samples/000000000256.png")
    assert status == 200 and body.startswith(b"\x89PNG") and headers["x-content-type-options"] == "nosniff"
    for path in ("config.json", "log.jsonl", "../.studio/token", ".lock", "state"):
        assert got(studio, f"/files/vae-digits/{path}")[0] == 404, path
    assert got(studio, "/files/.studio/token")[0] == got(studio, "/page/../server.py")[0] == 404


def test_no_path_that_anybody_types_leads_outside(studio):
    rng = random.Random(2)
    parts = [
        "..",
        "%2e%2e",
        "%2f",
        "..%2f",
        "%5c",
        "page",
        "files",
        "etc",
        "passwd",
        "%00",
        "vae-digits",
        ".studio",
        "token",
        ";",
        "?",
    ]
    for _ in range(MANY // 20):
        path = rng.choice(["/files/", "/page/", "//"]) + "/".join(rng.choices(parts, k=rng.randrange(1, 7)))
        status, _, body = got(studio, path)
        assert (
            status in (200, 400, 403, 404, 405)
            and b"root:" not in body
            and secret(studio).encode() not in body
        )
        assert b"Traceback" not in body


def test_noise_on_the_wire_leaves_the_studio_as_it_was(studio):
    from .test_wire import hostile

    rng = random.Random(3)
    with wired(studio) as wire:
        for _ in range(MANY // 10):
            wire.send(hostile(rng))
        wire.send("a text")
        wire.send(protocol.pack(dict(type="recall", key="the end")))
        heard = []
        while not heard or heard[-1].get("key") != "the end":
            heard.append(protocol.unpack(wire.recv(30))[0])
    assert all("Traceback" not in str(h) for h in heard)
    assert studio.process.poll() is None


def test_fifty_pages_are_served(studio):
    with contextlib.ExitStack() as open_:
        wires = [open_.enter_context(wired(studio)) for _ in range(50)]
        for i, wire in enumerate(wires):
            wire.send(protocol.pack(dict(type="watch", key="runs")))
            wire.send(protocol.pack(dict(type="recall", key=f"{i}")))
        for i, wire in enumerate(wires):
            kinds = [protocol.unpack(wire.recv(30))[0] for _ in range(2)]
            assert {k["key"] for k in kinds} == {"runs", f"{i}"}


def test_the_token_is_the_same_after_a_restart_and_nobody_else_reads_it(tmp_path):
    first = token(tmp_path)
    assert token(tmp_path) == first and len(first) >= 32
    assert (tmp_path / "token").stat().st_mode & 0o077 == 0
    (tmp_path / "token").chmod(0o644)
    assert token(tmp_path) != first, "somebody may have read it"


def test_a_folder_that_is_misspelled_is_told_and_not_made(tmp_path, capsys):
    assert main(["studio", str(tmp_path / "ruins"), "--no-browser"]) == 2
    assert "is no folder" in capsys.readouterr().err and not (tmp_path / "ruins").exists()
