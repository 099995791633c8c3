"""likeness studio."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import Parser


def studio(argv: list[str]) -> int:
    """studio [RUNS]: the runs in a folder, in a browser: watch, ask, play, compare"""
    parser = Parser(
        "studio",
        "Serves the run folders below RUNS on this machine alone, needs no network, and opens the browser.\n"
        "A training that is started there is a process of its own and goes on when the studio ends.",
        "[RUNS] [--port P] [--no-browser]",
    )
    parser.add_argument("runs", metavar="RUNS", nargs="?", type=Path, help="[runs]")
    parser.add_argument(
        "--port", type=_port, metavar="P", help="to listen on [that of the last time, or a free one]"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the link, and open nothing")
    parser.add_argument(
        "--frame", action="store_true", help="let a notebook on this machine hold the page in a frame"
    )
    parser.add_argument(
        "--open-to-network",
        metavar="HOST",
        default="",
        help="listen on this address of the machine instead of loopback, without encryption: whoever reads "
        "the traffic reads the token",
    )
    args = parser.read(argv)

    from ..core import Refusal

    if args["runs"] is not None and not args["runs"].is_dir():
        raise Refusal(
            f"{args['runs']} is no folder; name the one that holds your runs, or none: runs/ is then made "
            "where there is none."
        )
    try:
        from ..studio import running
    except ModuleNotFoundError as missing:
        raise Refusal(
            f"the studio needs {missing.name}, which is not installed; type: pip install 'likeness[studio]'"
        ) from None
    return running.run(
        args["runs"] or Path("runs"),
        args["open_to_network"] or "127.0.0.1",
        args["port"],
        browser=not args["no_browser"],
        framed=args["frame"],
    )


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return value
