"""A run as a file or folder for other programs, with its model card beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from ..core import Refusal
from ..data import Data
from ..runs import diffusers, onnx
from ..runs.run import Run
from . import model_card
from .model_card import Exported


class Asked(Protocol):
    """A run as api.Trained has it."""

    run: Run

    @property
    def data(self) -> Data: ...


def export(
    trained: Asked, path: Path, part: str | None = None, label: int | None = None
) -> tuple[dict[str, Any], str]:
    """Write what the ending of `path` asks for: .onnx, .md (the card alone), or none, a folder for diffusers.

    part: of an ONNX file, as runs/onnx.py has it.  label: of a folder.  Returns facts for JSON, and a
    sentence."""
    run = trained.run
    facts: dict[str, Any]
    if path.suffix.lower() == ".onnx":
        graph, difference = onnx.export(run, path, part)
        exported, facts = of_graph(path, graph), onnx.facts(graph) | dict(difference=difference)
        seen = (
            "not compared: onnxruntime is not here"
            if difference is None
            else f"{difference:.1g} from PyTorch"
        )
        inputs = ", ".join(graph.inputs)
        text = f"{path}: {graph.answer}, {inputs} -> {graph.output}; {seen} in onnxruntime"
    elif path.suffix.lower() == ".md":
        load = f'import likeness\n\nrun = likeness.open("{run.folder}")'
        exported, facts, text = Exported("likeness", load), {}, f"{path}: the model card"
    else:
        note = diffusers.export(run.model, path, label)
        load = (
            "from diffusers import DDPMPipeline\n\n"
            f'images = DDPMPipeline.from_pretrained("{path.name}")().images'
        )
        exported, facts = Exported("diffusers", load), dict(label=label, note=note)
        text = f'{path}: DDPMPipeline.from_pretrained("{path}") loads it' + (
            f"\nnote: {note}" if note else ""
        )
    card = model_card.write(run, _data(trained), path, exported)
    return facts | dict(card=str(card)), text if card == path else f"{text}\nmodel card: {card}"


def _data(trained: Asked) -> Data | None:
    """A card can be written where the data are not."""
    try:
        return trained.data
    except Refusal:
        return None


def of_graph(path: Path, graph: onnx.Graph) -> Exported:
    """How an ONNX file is loaded, and what goes in and comes out."""
    kinds = {name: "np.int64" if name == "label" else "np.float32" for name in graph.inputs}
    arrays = ", ".join(f'"{name}": {name}.astype({kind})' for name, kind in kinds.items())
    load = (
        "import numpy as np\nimport onnxruntime\n\n"
        f'session = onnxruntime.InferenceSession("{path.name}")\n'
        f'({graph.output},) = session.run(["{graph.output}"], {{{arrays}}})'
    )
    notes = {
        name: value if not value.startswith("[[") else _short(value) for name, value in graph.notes.items()
    }
    conventions = {f"input {k}": v for k, v in graph.inputs.items()} | {f"output {graph.output}": graph.means}
    return Exported("onnx", load, conventions | notes)


def _short(levels: str) -> str:
    """Many levels by their ends."""
    first, *_, last = json.loads(levels)
    return f"{first} ... {last}; all of them stand in the metadata of the file"
