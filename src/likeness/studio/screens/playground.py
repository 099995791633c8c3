"""The playground: models of points that train while one looks, on the library's own losses.

A session lives in this process by the key of its question.  While time runs its answer yields a frame after
the other, and looks for actions in between; once it stands still the answer ends, and the next action goes
on with the session.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core import Refusal
from .. import protocol
from ..playground import breaking, games, points
from ..playground.session import LAYERS, PACES, Session
from ..protocol import Answer

if TYPE_CHECKING:
    from ..worker import Desk

KEPT = 4
"""sessions; the one that was not looked at for longest goes"""
FRAME = 1 / 30
"""seconds between frames, at least"""
SAFE = 10.0
"""seconds between two times that a session which runs is kept on the disk"""
STEPS = 1000
"""of one wish for steps"""
SESSIONS: OrderedDict[str, Session] = OrderedDict()
LIVE = {"act"}


def models(desk: Desk, args: dict[str, Any], arrays: dict[str, np.ndarray]) -> Iterator[Answer]:
    """What can be chosen: models, laws, ways to fail."""
    entries = [dict(name=e.name, title=e.title, lattice=e.lattice) for e in games.entries().values()]
    failures = [dict(id=f.id, title=f.title, see=f.see) for f in breaking.FAILURES.values()]
    yield Answer(dict(models=entries, laws=list(points.NAMES), failures=failures))


def play(desk: Desk, args: dict[str, Any], arrays: dict[str, np.ndarray]) -> Iterator[Answer]:
    """A new session, at once: args key, and model, law, options; or break; or open, the name of a saved one.

    arrays: ink, the darkness of a drawing, uint8 (H, W)."""
    _threads()
    key = protocol.text(args, "key", 100)
    if name := protocol.text(args, "open", 60, ""):
        session = Session.open(desk.root, name)
    else:
        session = Session(_setup(args), arrays.get("ink"))
    _hold(key, session)
    session.running = protocol.flag(args, "run", False)
    return _frames(desk, key, session, True)


def act(desk: Desk, args: dict[str, Any], arrays: dict[str, np.ndarray]) -> Iterator[Answer]:
    """An action on the session of args key, which may stand still.  Done at once, and not when the first
    frame is pulled: a newer action may take this answer's place, and both are to count."""
    _threads()
    key = protocol.text(args, "key", 100)
    if key not in SESSIONS and (session := Session.kept(_file(desk, key))) is not None:
        _hold(key, session)
    if key not in SESSIONS:
        raise Refusal("this playground is gone: the process that played it was started anew; start it again.")
    SESSIONS.move_to_end(key)
    return _frames(desk, key, SESSIONS[key], _done(desk, SESSIONS[key], args))


def _hold(key: str, session: Session) -> None:
    SESSIONS[key] = session
    while len(SESSIONS) > KEPT:
        SESSIONS.popitem(last=False)


def _file(desk: Desk, key: str) -> Path:
    """Where a session is kept, should this process end."""
    return (
        desk.root / ".studio" / "playground" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    )


def _frames(desk: Desk, key: str, session: Session, changed: bool) -> Iterator[Answer]:
    """One frame, and more as long as time runs or actions wait.  changed: what stands beside the plot has."""
    yield _frame(session, changed)
    kept = time.monotonic()
    while True:
        began, ran = time.monotonic(), session.running
        if ran:
            session.advance()
        waiting = desk.inbox(key)
        changed = sum(_done(desk, session, args) for _, args, _ in waiting) > 0
        if time.monotonic() - kept > SAFE or not session.running:
            session.keep(_file(desk, key))  # nothing, where nothing has moved
            kept = time.monotonic()
        if not ran and not waiting:
            return
        yield _frame(session, changed)
        if ran and session.running:
            time.sleep(max(0.0, (1 / session.slow if session.slow else FRAME) - (time.monotonic() - began)))


def _frame(session: Session, changed: bool) -> Answer:
    data, arrays = session.view()
    session.news += bool(changed)
    # a page that missed a frame in which something changed, or was refused, sees it by these numbers
    about = session.about() if changed else None
    return Answer(data | dict(news=session.news, about=about, refused=list(session.refused)), {**arrays})


def _done(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    """Do what is asked, or remember why it was refused; whether more than a frame has changed."""
    try:
        name = protocol.choice(args, "do", tuple(ACTIONS))
        changed = ACTIONS[name](desk, session, args)
    except Refusal as refusal:
        session.refused = (session.refused[0] + 1, str(refusal))
        return False
    return changed


# Actions: each says whether what stands beside the plot has changed


def _run(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    if session.at is not None and protocol.flag(args, "on"):
        session.forget_future()
    session.start(protocol.flag(args, "on"))
    return False


def _step(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    session.start(False)
    session.step(protocol.text(args, "who", 40, "both"), protocol.whole(args, "n", 1, STEPS, 1))
    return False


def _pace(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    session.pace = protocol.whole(args, "steps", *PACES, session.pace)
    session.slow = protocol.number(args, "slow", 0.0, 10.0, session.slow)
    return False


def _look(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    layers = args.get("layers", sorted(session.layers))
    if not isinstance(layers, list) or any(layer not in LAYERS for layer in layers):
        raise Refusal(f"layers are of: {', '.join(LAYERS)}.")
    session.layers = set(layers)
    session.average(protocol.flag(args, "average", session.panes["a"].average))
    return False


def _rewind(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    session.rewind(protocol.whole(args, "frame", 0, 2**31 - 1))
    return False


def _back(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    session.rewind(
        (session.frame if session.at is None else session.at) - protocol.whole(args, "by", 1, 600, 50)
    )
    return False


def _set(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    session.change(_options(args))
    return True


def _mend(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    session.mend(protocol.text(args, "remedy", 40, ""), _options(args))
    return True


def _close(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    session.close(protocol.choice(args, "keep", ("a", "b"), "a"))
    return True


def _save(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    session.save(desk.root, protocol.text(args, "name", 60))
    return False


def _nothing(desk: Desk, session: Session, args: dict[str, Any]) -> bool:
    return True


ACTIONS = dict(
    run=_run, step=_step, pace=_pace, look=_look, rewind=_rewind, back=_back, set=_set, mend=_mend,
    close=_close,
    save=_save, show=_nothing,
)  # fmt: skip


def _setup(args: dict[str, Any]) -> dict[str, Any]:
    return dict(
        model=protocol.text(args, "model", 60, "gan"),
        law=protocol.text(args, "law", 60, "ring"),
        options=_options(args),
        **{"break": protocol.text(args, "break", 40, "")},
    )


def _options(args: dict[str, Any]) -> dict[str, Any]:
    """Whatever a page says they are: the model refuses what does not fit."""
    options = args.get("options", {})
    if not isinstance(options, dict) or len(options) > 100:
        raise Refusal("options are an object of names and values.")
    return {protocol.text({"name": k}, "name", 60): _value(k, v) for k, v in options.items()}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 60):
        return value
    raise Refusal(f"{name} is a number, a word, or true or false.")


def _threads() -> None:
    """A step of a tiny network is slower on two threads than on one."""
    import torch

    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)


ASKS = {"models": models, "play": play, "act": act}
