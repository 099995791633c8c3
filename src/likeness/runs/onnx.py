"""Trained networks as ONNX files, for programs that know nothing of PyTorch.

One file holds one answer of a model: the decoder of a generator or an autoencoder, an encoder, a classifier,
the denoiser of a diffusion model, or a generator from image to image, one way, for images of any height and
width.  The batch may have any size, everything is float32, and what inputs and
outputs mean stands in the file itself: names, doc strings, and metadata that begin with `likeness.`.

What needs a loop over the network has no place in a graph that is walked once: the sampling of diffusion and
of autoregressive models stays with whoever has the denoiser."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from .. import storage
from ..core import Compresses, Condition, Model, Refusal, Spec, Translates, answers, no_way_back
from ..parts.denoising import Denoiser
from .run import Run

NEEDED = ("onnx", "onnxscript")
BACK = "translate-back"
MODULES = ("denoise", "decode", "classify", "encode", "translate", BACK)
"""what can be written, and of several the first is, unless another is asked for"""
TOLERANCE = 1e-4
ROWS = 3
"""examples that the network is traced with; of no meaning for the file"""


@dataclass(frozen=True)
class Graph:
    """What a file holds: the answer, and what goes in and comes out, by name, in words."""

    answer: str
    inputs: dict[str, str]
    output: str
    means: str
    """of the output"""
    notes: dict[str, str] = field(default_factory=dict)
    """conventions: metadata of the file, each with `likeness.` before its name"""
    channels: int = 0
    """of images of any height and width, where those are what goes in; else 0"""


def export(run: Run, path: Path, answer: str | None = None) -> tuple[Graph, float | None]:
    """Write one answer of a run's model, by default the first of MODULES that it has.

    Returns what the file holds, and the largest difference to PyTorch that onnxruntime has on noise; None
    where it is not installed.  Raises Refusal where the model has no such answer, or one that is more than
    one pass of a network."""
    graph = described(run, answer)
    lacking()
    storage.make(path.parent)
    model = copy.deepcopy(run.model).cpu().eval()
    # channels last, instance normalisation takes images one by one: a graph of as many as it is traced with
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    content = traced(model, graph, run)
    difference = compared(content, model, graph)
    if difference is not None and not difference <= TOLERANCE:
        raise Refusal(
            f"the ONNX file would answer otherwise than the model, by up to {difference:.2g}; nothing was "
            "written.  Please report it with the run's config.json."
        )
    storage.write(path, content)
    return graph, difference


def described(run: Run, answer: str | None = None) -> Graph:
    """What a file of this run would hold.  Raises Refusal."""
    model, name = run.model, run.config.model
    able = {*answers(model), *([BACK] if "translate" in answers(model) else [])}
    there = [q for q in MODULES if q in able and not why_not(run, q)]
    if answer is None:
        if not there:
            reasons = [why for q in MODULES if q in able and (why := why_not(run, q))]
            if not reasons:
                reasons = [
                    LOOPS if "sample" in answers(model) else f"it answers {', '.join(answers(model))} only."
                ]
            raise Refusal(f"{name} has no part that an ONNX file can hold: {reasons[0]}")
        answer = there[0]
    if answer not in able:
        also = f"it has: {', '.join(there)}" if there else "an ONNX file can hold nothing of it"
        raise Refusal(f"{name} has no {answer} to export; {also}.")
    if why := why_not(run, answer):
        raise Refusal(f"{answer} of {name} cannot be exported: {why}")
    return _graph(run, answer)


LOOPS = (
    "it draws an image pixel after pixel, a pass of the network each, and ONNX files hold one pass; "
    "sample it here (likeness sample) and take the images."
)


def why_not(run: Run, answer: str) -> str:
    """Why an answer that the model has is none for a file; empty where it is one."""
    if run.config.inside:
        return (
            f"the run learns the codes of {run.config.inside.get('model', 'another model')}, and the two are "
            "one network after another; export the run whose codes they are, and train this model on images."
        )
    if isinstance(run.model, Denoiser) and answer in ("encode", "decode"):
        return (
            "the code of a diffusion model is where a differential equation ends, tens of passes of the "
            "network; export denoise, of which those are made."
        )
    if answer == BACK:
        return no_way_back(cast(Translates, run.model))
    if answer == "denoise" and {"tokens", "image"} & set(run.model.takes):
        return "it is told a text or an image of each example, which have no place in the file yet."
    if isinstance(run.model, Compresses) and run.model.code.symbols:
        return (
            "its codes are looked up in pieces whose number depends on the batch, which the file must not; "
            "an ae or a vae can be exported."
        )
    return ""


def _graph(run: Run, answer: str) -> Graph:
    spec, model = run.config.spec, run.model
    images = _images(spec)
    if answer == "encode":
        return Graph(answer, dict(image=images), "code", "float32 (batch, features): the code of each image")
    if answer == "classify":
        names = json.dumps(list(run.config.classes))
        return Graph(
            answer,
            dict(image=images),
            "log_probability",
            f"float32 (batch, {spec.labels}): log p(class | image), natural logarithm",
            dict(classes=names),
        )
    if answer == "decode":
        return _decoder(run, images)
    if answer in ("translate", BACK):
        return _translator(run, answer)
    assert isinstance(model, Denoiser)
    notes = dict(
        time=_clock(model),
        noise="x_t = alpha(t) x_0 + sigma(t) noise, noise ~ N(0, 1) in each value",
        levels=json.dumps([[round(v, 6) for v in level] for level in model.levels(model.steps)]),
        levels_mean="[t, alpha, sigma] of what `likeness sample` walks, from noise alone to the image",
    )
    inputs = dict(
        x_t=f"{images}, noisy: alpha(t) x_0 + sigma(t) noise", t=f"float32 (batch,): {_clock(model)}"
    )
    if model.conditional:
        inputs["label"] = f"int64 (batch,): the class, 0 to {spec.labels - 1}, or -1 for none"
        notes["classes"] = json.dumps(list(run.config.classes))
    return Graph(answer, inputs, "x_0", f"{images}: the image expected in x_t", notes)


def _translator(run: Run, answer: str) -> Graph:
    spec, model = run.config.spec, run.model
    source = spec.source[0] or spec.channels
    inside, outside = (spec.channels, source) if answer == BACK else (source, spec.channels)
    scale, stride = int(getattr(model, "scale", 1)), _stride(model)
    sides = f"both sides multiples of {stride}, at least {2 * stride}" if stride > 1 else "of any size"
    larger = f"{scale} height, {scale} width" if scale > 1 else "height, width"
    task = str(run.config.reading.get("task") or "")
    return Graph(
        answer,
        dict(source=f"float32 (batch, {inside}, height, width), {SPAN}; {sides}"),
        "image",
        f"float32 (batch, {outside}, {larger}), {SPAN}",
        dict(task=task) if task else {},
        inside,
    )


def _stride(model: Model) -> int:
    return max(1, int(getattr(model, "stride", 1)))


def _decoder(run: Run, images: str) -> Graph:
    spec, model = run.config.spec, run.model
    latent, conditional = int(getattr(model, "latent", 0)), bool(getattr(model, "conditional", False))
    draws = "sample" in answers(model)
    law = "draw it from N(0, 1) for new images" if draws else "as encode makes it"
    extra = f", then the class one-hot ({spec.labels} values)" if conditional else ""
    width = latent + spec.labels * conditional
    notes = dict(classes=json.dumps(list(run.config.classes))) if conditional else {}
    return Graph(
        "decode", dict(z=f"float32 (batch, {width}): {latent} values, {law}{extra}"), "image", images, notes
    )


SPAN = "values from -1 (black) to 1 (white)"


def _images(spec: Spec) -> str:
    shape = ", ".join(map(str, ("batch", *spec.shape)))
    return f"float32 ({shape}), " + (SPAN if spec.levels else "points as they are")


def _clock(model: Denoiser) -> str:
    """What the time of a model is."""
    low, high = model.schedule.cleanest, model.schedule.noisiest
    kind = {
        "Steps": "the step of the forward process",
        "Sigmas": "sigma, the standard deviation of the noise",
        "Straight": "the share of noise on the straight line between image and noise",
    }.get(type(model.schedule).__name__, "the model's own time")
    return f"{kind}, from {low:g} (nearly clean) to {high:g} (noise alone)"


# Writing


class Answer(nn.Module):
    """A model's answer as the forward pass of a network."""

    def __init__(self, model: Model, graph: Graph):
        super().__init__()
        self.model, self.graph = model, graph

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.graph.answer == BACK:
            answer: Tensor = cast(Translates, self.model).translate(inputs[0], True)
            return answer
        method = getattr(self.model, self.graph.answer)
        if "label" not in self.graph.inputs:
            return method(*inputs)
        x_t, t, label = inputs
        y = object.__new__(Condition)  # whose own check would fix the size of the batch
        object.__setattr__(y, "label", label)
        return method(x_t, t, y)


def example(model: Model, graph: Graph, n: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Inputs for n examples: noise, times, classes; images of any size are of another one for another n."""
    g, out = torch.Generator().manual_seed(seed), list[Tensor]()
    for name, about in graph.inputs.items():
        if name == "t":
            assert isinstance(model, Denoiser)
            at = torch.linspace(0.1, 0.9, n).double()
            low, high = model.schedule.cleanest, model.schedule.noisiest
            out.append((low + (high - low) * at).float())
        elif name == "label":
            out.append(torch.arange(n) % (model.spec.labels + 1) - 1)
        elif name == "z":
            width = int(about.split("batch, ")[1].split(")")[0])
            out.append(torch.randn(n, width, generator=g))
        elif graph.channels:
            size = (2 + n) * _stride(model), (3 + n) * _stride(model)
            out.append(torch.rand(n, graph.channels, *size, generator=g) * 2 - 1)
        else:
            out.append(torch.rand(n, *model.spec.shape, generator=g) * 2 - 1)
    return tuple(out)


def lacking() -> None:
    """Raises Refusal where what torch.onnx writes with is not installed."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise Refusal(f"to write ONNX files needs {' and '.join(missing)}: pip install 'likeness[onnx]'")


def traced(model: Model, graph: Graph, run: Run) -> bytes:
    """The file."""
    network, inputs = Answer(model, graph).eval(), example(model, graph, ROWS)
    shapes = {"inputs": tuple(_dynamic(model, graph) for _ in inputs)}
    names = [*graph.inputs]
    try:
        with torch.no_grad(), _quietly():
            program = torch.onnx.export(
                network,
                inputs,
                dynamo=True,
                input_names=names,
                output_names=[graph.output],
                dynamic_shapes=shapes,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        lines = str(error).strip().splitlines()
        why = lines[0][:200] if lines else repr(error)
        raise Refusal(
            f"{graph.answer} of {run.config.model} has a step that ONNX cannot hold ({why})."
        ) from error
    assert program is not None
    it = program.model
    for value in (*it.graph.inputs, *it.graph.outputs):
        value.doc_string = graph.inputs.get(str(value.name), graph.means)
    it.metadata_props.update(_metadata(run, graph))
    content: bytes = program.model_proto.SerializeToString()
    return content


def _dynamic(model: Model, graph: Graph) -> dict[int, Any]:
    """The axes of an input that have any length."""
    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if graph.channels:
        stride = _stride(model)
        for axis, name in enumerate(("rows", "columns"), 2):
            strides = torch.export.Dim(name, min=2)
            axes[axis] = stride * strides if stride > 1 else strides
    return axes


def _metadata(run: Run, graph: Graph) -> dict[str, str]:
    facts = dict(
        model=run.config.model,
        answer=graph.answer,
        weights=run.weights,
        seen=str(run.seen),
        version=str(run.config.facts.get("likeness", "")),
        data_fingerprint=str(run.config.data.get("fingerprint", "")),
        **{f"input.{name}": about for name, about in graph.inputs.items()},
        **{f"output.{graph.output}": graph.means},
        **graph.notes,
    )
    return {f"likeness.{name}": value for name, value in facts.items()}


def compared(content: bytes, model: Model, graph: Graph) -> float | None:
    """The largest difference between onnxruntime and PyTorch, over batches of one and of five, as a share of
    the largest value where that is above 1; None where onnxruntime is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime  # type: ignore[import-not-found, import-untyped, unused-ignore]

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for n in (1, 5):
        inputs = example(model, graph, n, seed=1)
        with torch.no_grad():
            want = Answer(model, graph)(*inputs)
        got = torch.from_numpy(session.run(None, {k: v.numpy() for k, v in zip(graph.inputs, inputs)})[0])
        if got.shape != want.shape:
            return float("inf")
        worst = max(worst, float((got - want).abs().max() / max(1.0, float(want.abs().max()))))
    return worst


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporter tells developers of PyTorch what it does; errors come as exceptions all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def facts(graph: Graph) -> dict[str, Any]:
    """For the model card and --json."""
    return dict(answer=graph.answer, inputs=graph.inputs, outputs={graph.output: graph.means}, **graph.notes)
