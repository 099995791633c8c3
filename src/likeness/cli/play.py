"""likeness play: agents that learn in a world, and what they have learnt; their part of likeness evaluate."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import Parser, closest, common, count, flags, natural, undisturbed
from .outline import value

if TYPE_CHECKING:
    from ..agents.playing import Choose
    from ..agents.run import AgentRun
    from ..metrics.card import Score

EPISODES = 100
"""that an evaluation plays"""
RANDOM, BEST = "random policy", "best possible"
KINDS = {".gif": "GIF", ".webp": "WEBP"}


def play(argv: list[str]) -> int:
    """play AGENT WORLD [RUN]: train an agent (ppo, dqn, reinforce, world-model); play RUN makes a film of one"""
    names = value("agents.__init__", "NAMES")
    words = [word for word in argv if not word.startswith("-")]
    if words and words[0] in names:
        return _train(argv, words[0])
    if words and not _is_agent(Path(words[0])):
        from ..core import Refusal

        raise Refusal(
            f"{words[0]} is neither an agent ({', '.join(names)}) nor the run of one.  "
            f"{closest(words[0], list(names))}  Begin with: likeness play ppo CartPole-v1"
        )
    if words:
        return _show(argv)
    parser = _training("AGENT", None)
    parser.read(argv)
    return 2  # without operands the parser has refused or helped


def _is_agent(folder: Path) -> bool:
    """Whether an agent has run there.  It needs no torch."""
    try:
        return "agent" in json.loads((folder / "config.json").read_text())
    except (OSError, ValueError, TypeError):
        return False


# Training


def _training(agent: str, kind: Any) -> Parser:
    worlds = ", ".join(value("agents.opening", "BUILT_IN"))
    parser = Parser(
        "play",
        "An agent that learns by doing.  The same command goes on where a run was stopped, bit by bit.",
        f"{agent} WORLD [RUN] [options]",
    )
    parser.add_argument("agent", metavar="AGENT", help=", ".join(value("agents.__init__", "NAMES")))
    parser.add_argument("world", metavar="WORLD", help=f"{worlds}, or one of gymnasium, such as Acrobot-v1")
    parser.add_argument("run", metavar="RUN", nargs="?", type=Path, help="folder [runs/AGENT-WORLD]")
    parser.add_argument("--seed", type=natural, help="random seed [0]")
    parser.add_argument(
        "--seeds", type=count, metavar="N", help="train N runs, of this seed and those that follow"
    )
    common(parser, "--json")
    if kind is not None:
        flags(parser, f"options of {agent}", kind.Options, kind.Options())
    return parser


def _train(argv: list[str], name: str) -> int:
    with undisturbed():
        from .. import agents
    kind = agents.load(name)
    args = _training(name, kind).read(argv)
    typed = {k: v for k, v in args.items() if k not in ("agent", "world", "run", "seed", "seeds", "json")}
    plain = args["world"].replace("/", "-")
    folder = args["run"] or Path("runs") / f"{args['agent']}-{plain}"
    if args["seeds"] is None:
        return _one(args, folder, args["seed"], typed, args["json"])
    for seed in range(args["seed"] or 0, (args["seed"] or 0) + args["seeds"]):
        if code := _one(args, folder.with_name(f"{folder.name}-seed{seed}"), seed, typed, args["json"]):
            return code
    return 0


def _one(args: dict[str, Any], folder: Path, seed: int | None, typed: dict[str, Any], as_json: bool) -> int:
    """Train one run."""
    from ..agents.run import AgentRun
    from ..reports import terminal
    from ..training.signals import stopping

    run = AgentRun.begin(folder, args["agent"], args["world"], seed, typed)
    try:
        for note in run.notes:
            terminal.say(f"note: {note}", as_json)
        with stopping() as stop:
            _walk(run, lambda: bool(stop.signal), as_json)
            number = stop.signal
    finally:
        run.close()
    if number:
        terminal.say(f"stopped and saved at step {run.steps:,}; the same command goes on from here")
        return 128 + number
    result = _result(run)
    lately = "" if result["return"] is None else f", return {result['return']:.1f} lately"
    speed = f"{result['steps_per_second']:,.0f} steps/s of processor"
    terminal.result(
        result,
        as_json,
        f"done: {folder}, {run.steps:,} steps{lately}, {speed}\nsee it: likeness play {folder}\n"
        f"measure it: likeness evaluate {folder}",
    )
    return 0


def _walk(run: AgentRun, stop: Any, as_json: bool) -> None:
    """To the end, with a word on how it goes."""
    from ..reports import terminal

    last = time.monotonic()
    with terminal.err.status("") as status:
        for line in run.fit(stop):
            text = f"{run.folder}: step {line['steps']:,} of {run.options.steps:,}"
            text += f", {line['clock'] / run.agent.whole(run.options.steps):.0%}" if "clock" in line else ""
            text += "".join(f"  {k} {line[k]:.2f}" for k in ("return", "dream return") if k in line)
            status.update(text)
            if not terminal.err.is_terminal and time.monotonic() - last > terminal.EVERY:
                last = time.monotonic()
                terminal.say(text, as_json)


def _result(run: AgentRun) -> dict[str, Any]:
    """Of a run that is done; its return is the mean of the last tenth of its log."""
    log = run.log()
    lately = [line for line in log[-max(1, len(log) // 10) :] if "return" in line]
    episodes = sum(line["episodes"] for line in lately)
    mean = sum(line["return"] * line["episodes"] for line in lately) / episodes if episodes else None
    return {
        "run": str(run.folder),
        "agent": run.config.agent,
        "world": run.config.world,
        "seed": run.config.seed,
        "steps": run.steps,
        "return": mean,
        "seconds": round(run.seconds, 2),
        "steps_per_second": round(run.steps / max(run.seconds, 1e-9)),
    }


# Films


def _show(argv: list[str]) -> int:
    parser = Parser("play", "A film of what an agent has learnt.", "RUN [-o film.gif] [-n 1] [--drawn]")
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--drawn", action="store_true", help="draw actions from the policy, not its best")
    helps = dict(
        n="episodes in a row [1]", o="output file (.gif, .webp) [RUN/film.gif]", seed="of the episodes"
    )
    common(parser, "-n", "--seed", "-o", "--json", **helps)
    args = parser.read(argv)
    from .. import storage
    from ..agents import opening, playing
    from ..core import Refusal
    from ..reports import terminal
    from .arguments import writable

    path = args["o"] or args["run"] / "film.gif"
    if path.suffix.lower() not in KINDS:
        raise Refusal(f"-o {path} should end in {' or '.join(KINDS)}.")
    writable(path)
    run = _opened(args["run"])
    world = opening.world(run.config.world, 1, _seed("film", args["seed"]), drawn=True)
    choose = _choose(run, args["drawn"], args["seed"])
    pictures = list(run.agent.frames(world, choose, args["n"] or 1))
    storage.make(path.parent)
    storage.write(path, playing.film(pictures, world.pace, KINDS[path.suffix.lower()]))
    played = world.take()
    text = ", ".join(f"return {e.total:.4g} in {e.length} steps" for e in played) or "cut off"
    result = dict(
        run=str(run.folder), film=str(path), frames=len(pictures), returns=[e.total for e in played]
    )
    terminal.result(result, args["json"], f"{text}\n{path}")
    return 0


def _opened(folder: Path) -> AgentRun:
    with undisturbed():
        from ..agents.run import AgentRun
    run = AgentRun.open(folder)
    if not run.steps:
        from ..core import Refusal

        raise Refusal(
            f"{folder} has no state yet; likeness play {run.config.agent} {run.config.world} {folder}"
        )
    return run


def _seed(what: str, seed: int) -> int:
    """Of episodes that no training has."""
    from .. import engine

    return engine.derive(what, seed) % 2**32


def _choose(run: AgentRun, drawn: bool, seed: int) -> Choose:
    import numpy as np

    rng = np.random.default_rng(_seed("actions", seed)) if drawn else None
    return run.agent.playing(rng)


# Evaluation


def of_agents(argv: Sequence[str]) -> bool:
    """Whether likeness evaluate is asked about runs of agents.  Raises Refusal for a mixture."""
    from ..runs.folder import is_run

    folders = [Path(word) for word in argv if not word.startswith("-") and is_run(Path(word))]
    agents = [folder for folder in folders if _is_agent(folder)]
    if agents and len(agents) < len(folders):
        from ..core import Refusal

        other = next(folder for folder in folders if folder not in agents)
        raise Refusal(
            f"{agents[0]} is the run of an agent and {other} is none; evaluate them one after the other."
        )
    return bool(agents)


def evaluate(argv: list[str]) -> int:
    """The returns of agents: each run, and of several of one kind their interquartile mean over seeds."""
    parser = Parser("evaluate", "Returns of agents.", "RUN [RUN ...] [-n 100] [--drawn]")
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+")
    parser.add_argument("--drawn", action="store_true", help="draw actions from the policy, not its best")
    common(parser, "-n", "--seed", "--json", n=f"episodes of each run [{EPISODES}]", seed="of the episodes")
    args = parser.read(argv)
    from ..evaluation.scores import save_scores
    from ..reports import terminal

    n = args["n"] or EPISODES
    cards: dict[Path, list[Score]] = {}
    kinds: dict[tuple[str, str], list[Path]] = {}
    for folder in args["run"]:
        run = _opened(folder)
        cards[folder] = _cards(run, n, args["seed"], args["drawn"])
        save_scores(folder, cards[folder])
        kinds.setdefault((run.config.agent, run.config.world), []).append(folder)
    rows = [_over_seeds(*kind, folders, cards, args["seed"]) for kind, folders in kinds.items()]
    if args["json"]:
        runs = {str(folder): [c.as_dict() for c in own] for folder, own in cards.items()}
        print(terminal.document(dict(runs=runs, over_seeds=rows), indent=1))
        return 0
    head = ("run", "steps", "return of the last policy", RANDOM, BEST)
    terminal.columns(head, [_line(folder, own) for folder, own in cards.items()])
    print(
        f"means of {n} episodes with 95 % intervals over them; {'drawn' if args['drawn'] else 'best'} actions"
    )
    for folder, own in cards.items():
        for card in own:
            if card.name != "return":
                print(f"{folder}: {card.name} of {card.of}: {card.number}")
    for row in rows:
        if row["runs"] > 1:
            print(f"{row['agent']} on {row['world']}: IQM over {row['runs']} runs {row['iqm']:.4g} "
                  f"[{row['low']:.4g}, {row['high']:.4g}]")  # fmt: skip
        if row["warning"]:
            print(f"warning: {row['agent']} on {row['world']}: {row['warning']}")
    return 0


def _cards(run: AgentRun, n: int, seed: int, drawn: bool) -> list[Score]:
    """The return of the last policy, beside that of chance and the best there is."""
    import numpy as np

    from ..agents import opening, playing
    from ..agents.run import one_thread
    from ..metrics.card import Score, measure

    how: dict[str, Any] = dict(unit="reward", better="higher", split="episodes", group="representation")
    how["settings"] = dict(steps=run.steps, seconds=run.seconds, drawn=drawn)
    out: list[Score] = []
    chance = playing.uniform(run.world.space.actions, np.random.default_rng(_seed("chance", seed)))
    for of, choose in (("model", _choose(run, drawn, seed)), (RANDOM, chance)):
        world = opening.world(run.config.world, n, _seed("evaluation", seed))
        with one_thread():
            totals = np.array([e.total for e in playing.episodes(world, choose)])
        out.append(measure("return", totals, seed, of=of, **how))
    if (best := run.world.best()) is not None:
        out.append(Score("return", best, of=BEST, kind="exact", **how))
    with one_thread():
        return out + run.agent.cards(opening.world(run.config.world, 16, _seed("cards", seed)), seed)


def _line(folder: Path, cards: list[Score]) -> tuple[str, ...]:
    of = {card.of: card.number for card in cards if card.name == "return"}
    steps = cards[0].settings["steps"]
    return str(folder), f"{steps:,}", of["model"], of[RANDOM], of.get(BEST, "unknown")


def _over_seeds(
    agent: str, world: str, folders: list[Path], cards: dict[Path, list[Score]], seed: int
) -> dict[str, Any]:
    """Runs of one agent in one world, as one."""
    import numpy as np

    from ..metrics import returns

    means = np.array([[cards[folder][0].value] for folder in folders])
    few = f"{len(means)} runs; seeds differ so much that five are the least to compare agents by"
    out: dict[str, Any] = dict(agent=agent, world=world, runs=len(means), iqm=returns.iqm(means))
    out["low"], out["high"] = returns.stratified(means, seed) if len(means) > 1 else (None, None)
    chance = cards[folders[0]][1]
    lost = means.mean() < (chance.low if chance.low is not None else chance.value)
    below = "its return is below that of the random policy" if lost else ""
    return out | dict(warning="; ".join(filter(None, [few if len(means) < 5 else "", below])))
