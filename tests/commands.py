"""The command line as a test asks it."""

from __future__ import annotations

import json

from likeness.cli import main


def ask(capsys, *argv: str) -> dict:
    """What a command prints with --json."""
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv: str) -> str:
    """What a command that is wrong says: one sentence on stderr, and nothing else."""
    assert main(list(argv)) == 2
    out, err = capsys.readouterr()
    assert not out and "Traceback" not in err
    return err
