"""The model card of an exported run: README.md as Hugging Face shows it (Mitchell et al., "Model Cards for
Model Reporting", 2019, in the sections of their template).

It says what is known and no more: a licence stands in it only where the data set has one in our lock table,
and that of the model is for whoever publishes it to choose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import storage
from ..core import BadData, answers
from ..data import Data, downloads
from ..evaluation.scores import scores_of
from ..metrics.card import Score, short
from ..runs.run import Run

NAME = "README.md"
MARK = "<!-- written by likeness export, which replaces this file when it is run again -->"
TASKS = {
    "translate": "image-to-image",
    "sample": "unconditional-image-generation",
    "classify": "image-classification",
    "encode": "image-feature-extraction",
}
"""the first that a model answers is its task on Hugging Face"""
UNKNOWN = "not known to likeness: whoever publishes this should say it"


@dataclass(frozen=True)
class Exported:
    """What the card stands beside."""

    library: str
    """that loads it, as Hugging Face calls it: diffusers, onnx or likeness"""
    loading: str
    """Python that does so"""
    conventions: Mapping[str, str] = field(default_factory=dict)
    """inputs, outputs and their units, by name"""


def write(run: Run, data: Data | None, beside: Path, exported: Exported) -> Path:
    """Write the card into the folder `beside`, or beside the file of that name; returns its path.

    data: those of the run, or None where they are not at hand.  A README.md that likeness has not written is
    left alone; the card is then called after the file."""
    named = beside.suffix.lower() == ".md"
    folder, stem = (beside, "") if not beside.suffix else (beside.parent, f"{beside.stem}-")
    path = beside if named else folder / NAME
    if not named and path.exists() and MARK not in path.read_text(errors="replace"):
        path = folder / f"{stem or 'likeness-'}{NAME}"
    storage.make(folder)
    picture = _picture(run, folder / f"{stem}samples.png")
    storage.write(path, card(run, data, exported, picture).encode(errors="backslashreplace"))
    return path


def _picture(run: Run, path: Path) -> str:
    """The newest snapshot of the run under another name, or nothing where there is none."""
    shots = sorted(
        p for p in (run.folder / "samples").glob("*.png") if p.stem.isdecimal() and int(p.stem) <= run.seen
    )
    if not shots:
        return ""
    storage.write(path, shots[-1].read_bytes())
    return path.name


def card(run: Run, data: Data | None, exported: Exported, picture: str = "") -> str:
    """The text of the card."""
    scores, trouble = _scores(run)
    name = _name(run)
    title = f"{run.config.method} on {name}"
    code = f"```python\n{exported.loading.strip()}\n```"
    parts = {
        "": f"{MARK}\n\n# {_text(title)}\n\n{_about(run)}",
        "Samples": f"![samples]({picture})" if picture else "",
        "How to load it": code,
        "Inputs and outputs": _list(exported.conventions),
        "Data": _list(_data(run, data)),
        "Scores": trouble or _table(scores),
        "Training": _list(_training(run)),
    }
    body = "\n\n".join(f"## {head}\n\n{text}" if head else text for head, text in parts.items() if text)
    return f"---\n{_front(run, scores, exported, name)}---\n\n{body}\n"


def _name(run: Run) -> str:
    """Of the data, without the path to it."""
    source = str(run.config.data.get("source", "data"))
    return Path(source).name or source


def _scores(run: Run) -> tuple[list[Score], str]:
    try:
        scores = scores_of(run)
    except BadData as damaged:
        return [], str(damaged)
    return scores, "" if scores else f"Not scored yet: `likeness evaluate {run.folder.name}` writes them."


# The front matter


def _front(run: Run, scores: Sequence[Score], exported: Exported, name: str) -> str:
    """YAML, of which JSON is a part: every value is written as JSON."""
    asked = answers(run.model)
    task = next((TASKS[q] for q in TASKS if q in asked), "")
    values: dict[str, Any] = dict(
        license="unknown",
        library_name=exported.library,
        tags=["likeness", run.config.method.split()[0].removesuffix(".py"), *asked],
    )
    values |= {"pipeline_tag": task} if task else {}
    own = [s for s in scores if s.of == "model" and not s.refused]
    if own and task:
        dataset = dict(name=name, type=name)
        metrics = [
            dict(type=s.name, name=s.name, value=float(short(s.value).replace(",", "")), verified=False)
            for s in own
        ]
        results = [dict(task=dict(type=task), dataset=dataset, metrics=metrics)]
        values["model-index"] = [dict(name=run.folder.name, results=results)]
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())


# The sections


def _about(run: Run) -> str:
    spec, weights = run.config.spec, sum(p.numel() for p in run.model.parameters())
    what = (
        "points in the plane"
        if spec.points
        else f"images of {' x '.join(map(str, spec.shape))} (channels, height, width)"
    )
    return (
        f"A `{run.config.model}` with {weights:,} weights, trained by likeness on {what}: "
        f"{run.seen:,} images seen.  It answers: {', '.join(answers(run.model))}.  "
        f"The weights are the {run.weights}."
    )


def _data(run: Run, data: Data | None) -> dict[str, str]:
    """Only what is known."""
    config, name = run.config.data, _name(run)
    # a folder of somebody's own may be called as a set is, and has a path
    source = str(config.get("source", ""))
    licence = downloads.LICENCES.get(source.split(":")[0].removeprefix("stacked-"), "")
    sides = {}
    if data is not None and data.fingerprint == config.get("fingerprint"):
        count = f"{len(data.train) + len(data.held_out):,}"
        sides["number"] = f"{count}: {len(data.train):,} to learn from, {len(data.held_out):,} held out"
    elif data is not None:
        sides["number"] = "not known any more: the data have changed since the training"
    else:
        sides["number"] = "not known here: the data were not at hand when this was written"
    read = ", ".join(f"{k} {v}" for k, v in config.items() if k not in ("source", "fingerprint"))
    return (
        dict(name=name)
        | sides
        | dict(classes=", ".join(run.config.classes[:20]) + (" ..." if len(run.config.classes) > 20 else ""))
        | dict(fingerprint=str(config.get("fingerprint", "")), read_with=read, licence=licence or UNKNOWN)
    )


def _training(run: Run) -> dict[str, str]:
    facts, training = run.config.facts, run.config.training
    how = f"batch {training.batch}, rate {training.rate:g}, seed {training.seed}, {training.precision}"
    return dict(
        images_seen=f"{run.seen:,}",
        seconds=f"{run.seconds:,.0f}" if run.seconds else "",
        options=", ".join(f"{k} {v}" for k, v in run.config.options.items()),
        training=how,
        made_with=", ".join(f"{k} {facts[k]}" for k in ("likeness", "torch") if k in facts),
    )


def _list(values: Mapping[str, str]) -> str:
    return "\n".join(f"- **{_text(k.replace('_', ' '))}**: {_text(v)}" for k, v in values.items() if v)


def _table(scores: Sequence[Score]) -> str:
    """The model's own, each with its interval and what it is to be compared with."""
    rows = [
        "| measure | value | 95 % interval | better | images | network | compared with |",
        "|---" * 7 + "|",
    ]
    for s in (s for s in scores if s.of == "model"):
        between = "" if s.low is None or s.high is None else f"{short(s.low)} to {short(s.high)}"
        rivals = ", ".join(
            f"{o.of} {short(o.value)}"
            for o in scores
            if o.name == s.name and o.of != "model" and not o.refused
        )
        kind = "" if s.kind == "measured" else f" ({s.kind})"
        value = f"refused: {s.warning}" if s.refused else f"{short(s.value)} {s.unit}{kind}"
        cells = (s.name, value, between, s.better, f"{s.n:,} {s.split}", s.features, rivals)
        rows.append("| " + " | ".join(_text(c).strip() for c in cells) + " |")
    seeds = ", ".join(str(seed) for seed in sorted({s.seed for s in scores}))
    rule = "Each network sees images in its own way: compare numbers of one network only."
    return "\n".join(
        [
            *rows,
            "",
            f"Seed {seeds}.  {rule}",
        ]
    )


def _text(text: object) -> str:
    """In Markdown, so that a name can neither end a table nor begin an element."""
    flat = " ".join(str(text).split())
    return (
        flat.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace("|", "\\|")
        .replace("[", "\\[")
        .replace("`", "'")
    )
