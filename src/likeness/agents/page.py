"""Pages of agents, each one file: report.html of a run, compare.html of several."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import figures, storage
from ..figures import html
from ..metrics.card import Score, short
from ..metrics.returns import iqm
from ..reports import run_page
from . import evaluation
from .run import AgentRun

PAGE, COMPARISON, FILM = "report.html", "compare.html", "film.gif"
PLACES = 60
"""of a curve of several runs"""
TERMS = dict(
    q="mean value Q", baseline="mean return that the critic learns", advantage="deviation of advantages"
)
SKIPPED = ("steps", "clock", "episodes", "return", "length", "first ratio off")
CURVES = (
    "Faint: as logged. Dark: mean of its surroundings. By the policy that explores, not the one that is "
    "scored."
)
NOTHING = "No check has found anything suspicious."
Own = Mapping[Path, Sequence[Score]]


def report(run: AgentRun, cards: Sequence[Score]) -> Path:
    """Replace report.html; raises DiskTrouble with the one before intact."""
    c = run.config
    typed = " ".join(_flag(name.replace("_", "-"), v) for name, v in c.options.items())
    again = f"likeness play {c.agent} {c.world} {run.folder.name} --seed {c.seed} {typed}"
    sections = [
        html.section("What to look out for", warnings([text for card in cards for text in card.warnings])),
        html.section("What it does", film(run.folder), f"likeness play {run.folder.name}"),
        html.section("Learning curve", curves(run), CURVES),
        html.section("Scores", run_page.cards(cards)),
        html.section("How to make it again", html.tag("pre", "wide", figures.safe(again))),
        html.section("Options", html.table(c.options)),
    ]  # fmt: skip
    status = f"{run.steps:,} steps, seed {c.seed}, {run.seconds:,.0f} seconds of processor"
    return _write(run.folder / PAGE, f"{c.agent} on {c.world}", status, sections)


def _flag(name: str, setting: Any) -> str:
    if isinstance(setting, bool):
        return f"--{name}" if setting else f"--no-{name}"
    return f"--{name} {setting}"


def _write(path: Path, title: str, status: str, sections: Sequence[str]) -> Path:
    name = figures.safe(title)
    head = f'<p class="kind">likeness</p><h1>{name}</h1><p class="status">{figures.safe(status)}</p>'
    body = f"<header>{head}</header><main>{''.join(sections)}</main>"
    page = figures.TEMPLATE.format(title=name, css=figures.CSS, body=body)
    storage.write(path, page.encode())
    return path


def warnings(texts: Sequence[str]) -> str:
    items = "".join(f"<li>{figures.safe(text)}</li>" for text in dict.fromkeys(texts))
    return html.tag("ul", "warn", items) if items else html.tag("p", "fine", NOTHING)


def film(folder: Path) -> str:
    """The film, where likeness play RUN has made one that a page can hold."""
    try:
        content = (folder / FILM).read_bytes()
    except OSError:
        return ""
    if len(content) > 8_000_000:
        return ""
    data = base64.b64encode(content).decode()
    return f'<img src="data:image/gif;base64,{data}" alt="an episode">'


def time_of(line: Mapping[str, Any]) -> float:
    """Steps; of an agent that goes on learning after its last step, its clock (Agent.clock)."""
    return float(line.get("clock", line["steps"]))


def curves(run: AgentRun) -> str:
    """The return first, then each term of the log."""
    log = run.log()
    names = dict.fromkeys(name for line in log for name in line if name not in SKIPPED)
    charts, axis = [], "clock" if any("clock" in line for line in log) else "steps"
    for name in ("return", *names):
        rows = np.array([(time_of(line), line[name]) for line in log if name in line], np.float64)
        if len(rows) > 1:
            charts.append(figures.curve(rows[:, 0], rows[:, 1], TERMS.get(name, name), axis))
    return html.tag("div", "charts", "".join(charts)) if charts else ""


# Several runs


def compare(runs: Sequence[AgentRun], own: Own, rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Replace compare.html in the folder, which is made if need be: returns over seeds, and learning curves
    world by world."""
    storage.make(folder)
    texts = [f"{row['agent']} on {row['world']}: {row['warning']}" for row in rows if row["warning"]]
    texts += [f"{run.folder}: {text}" for run in runs for text in own[run.folder][-1].warnings]
    lead = (
        "IQM: mean of the middle half of the runs. Its interval is that of a stratified bootstrap over "
        "seeds (Agarwal et al. 2021); the last policy of each run, not the best."
    )
    worlds = dict.fromkeys(run.config.world for run in runs)
    charts = "".join(_chart(world, [run for run in runs if run.config.world == world]) for world in worlds)
    sections = [
        html.section("What to look out for", warnings(texts)),
        html.section("Returns over seeds", _over_seeds(rows), lead),
        html.section("Learning curves", charts, "IQM over the runs of an agent, exploration included."),
        html.section("Runs", _runs(runs, own)),
    ]
    return _write(folder / COMPARISON, f"{len(runs)} runs of agents", ", ".join(worlds), sections)


def _over_seeds(rows: Sequence[dict[str, Any]]) -> str:
    def between(row: dict[str, Any]) -> str:
        return "" if row["low"] is None else f"{short(row['low'])} – {short(row['high'])}"

    head = ("agent", "world", "runs", "IQM", "95 % interval", "worst and best run", "random policy")
    body = [
        (row["agent"], row["world"], row["runs"], short(row["iqm"]), between(row),
         f"{short(row['worst'])}, {short(row['best_run'])}", short(row["random"]))
        for row in rows
    ]  # fmt: skip
    return _table(head, body)


def _runs(runs: Sequence[AgentRun], own: Own) -> str:
    names = ("return", "return while it learnt", "steps to half", "speed", "findings")
    body = []
    for run in runs:
        of = {card.name: card for card in own[run.folder] if card.of == "model"}
        cells = [of[name].number if name in of else "" for name in names]
        body.append((run.folder.name, f"{run.steps:,}", *cells))
    return _table(("run", "steps", *names), body)


def _table(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    top = "".join(f'<th scope="col">{figures.safe(text)}</th>' for text in head)
    cells = ("".join(f"<td>{figures.safe(cell)}</td>" for cell in row) for row in body)
    rows = "".join(f"<tr>{row}</tr>" for row in cells)
    return html.tag("div", "wide", f'<table class="plain"><thead><tr>{top}</tr></thead>{rows}</table>')


def _chart(world: str, runs: Sequence[AgentRun]) -> str:
    picture = chart(world, runs)
    if picture is None:
        return ""
    return f'<p><img src="{figures.uri(figures.png(picture, dict(world=world)))}" alt="learning curves"></p>'


def chart(world: str, runs: Sequence[AgentRun]) -> np.ndarray | None:
    """Return over steps, a line an agent: the IQM over its runs; uint8 (height, width, 3)."""
    kinds: dict[str, list[np.ndarray]] = {}
    for run in runs:
        if len(table := evaluation.curve(run)) > 1:
            kinds.setdefault(run.config.agent, []).append(table)
    lines = [(_named(agent, tables), *together(tables)) for agent, tables in kinds.items()]
    return figures.chart(lines, "steps", f"return on {world}", 620, 280) if lines else None


def _named(agent: str, tables: Sequence[np.ndarray]) -> str:
    return f"{agent}, {len(tables)} {'runs' if len(tables) > 1 else 'run'}"


def together(tables: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The IQM of curves (lines, 2), at places that all of them have; each smoothed over 3 % of the way."""
    end = min(table[-1, 0] for table in tables)
    places = np.linspace(max(table[0, 0] for table in tables), end, PLACES)
    smooth = [np.interp(places, t[:, 0], figures.smooth(t[:, 0] / end, t[:, 1])) for t in tables]
    return places, np.array([iqm(column) for column in np.array(smooth).T])
