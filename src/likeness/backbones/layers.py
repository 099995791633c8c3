"""A network that is asked for its layers by name, and goes no further than the deepest of them.

    net.layers                         names in order, each with the shape of its output
    net.outputs(x, ["block4_pool"])    what these layers say of images x
    net.classify(x)                    logits, where it has classes

Images are what they are everywhere in this program, (B, 3, H, W) in [-1, 1], or their bytes; `prepare` makes
of them what the network was trained on, and a gradient goes through it back to the image.

A Graph is written down layer by layer with Keras' names.  A Hooked network is anybody's module, whose
sub-modules are the layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Refusal, closest
from . import winograd

Shape = tuple[int, ...]
LOGITS = "logits"


@dataclass(frozen=True)
class Input:
    """What a network was trained on, in brightness 0 to 255: the channels in their order, minus `mean`, over
    `scale`, minus `shift`."""

    bgr: bool = False
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """in the order of the channels"""
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: float = 0.0

    def of(self, x: Tensor) -> Tensor:
        """Images (B, 1 or 3, H, W), floats in [-1, 1] or bytes.  Bytes give the very bits that Keras'
        preprocess_input gives."""
        level = x.float() if x.dtype == torch.uint8 else (x + 1) * 127.5
        if x.shape[1] == 1:
            level = level.expand(-1, 3, -1, -1)
        if self.bgr:
            level = level.flip(1)
        if any(self.mean):
            level = level - level.new_tensor(self.mean).view(3, 1, 1)
        if any(s != 1 for s in self.scale):
            level = level / level.new_tensor(self.scale).view(3, 1, 1)
        return level - self.shift if self.shift else level


CAFFE = Input(bgr=True, mean=(103.939, 116.779, 123.68))
UNIT = Input(scale=(127.5, 127.5, 127.5), shift=1.0)


class Probe(nn.Module):
    """What every network of the lab answers.  Its weights are fixed: gradients are those of the image."""

    name: str
    side: int
    """height and width of the images that it was trained on"""
    least = 1
    """smallest side that it can look at"""
    scaling = "nearest"
    """how image files are brought to its size, unless the user says otherwise (gallery.SCALINGS)"""
    labels: tuple[str, ...] = ()
    """names of its classes"""
    sha256: str = ""
    """of the weights in use"""
    source: str = ""
    """where these come from, in a line"""
    fixed = False
    """images of another size are brought to `side`"""
    lost: dict[str, str]
    """layers that the weights at hand cannot answer for, and why"""
    layers: dict[str, Shape]
    """the output of each, without the batch, for images of `side`: (C, H, W), or (C,)"""

    def __init__(self) -> None:
        super().__init__()
        self.lost = {}

    def prepare(self, x: Tensor) -> Tensor:
        """Images (B, 1 or 3, H, W), in [-1, 1] or bytes, as the network takes them; differentiable."""
        raise NotImplementedError

    def outputs(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Of images (B, 1 or 3, H, W), in [-1, 1] or bytes, for each name: (B, C, H', W'), or (B, C).

        Raises Refusal for a name that is none, a layer whose weights are missing, and images of a size that
        it cannot look at.
        """
        raise NotImplementedError

    def classify(self, x: Tensor) -> Tensor:
        """Logits (B, classes), before the softmax."""
        return self.outputs(x, [LOGITS])[LOGITS]

    @contextmanager
    def hurried(self, names: Sequence[str]) -> Iterator[None]:
        """Within, ready to say what these layers say of many images; the weights are to stay as they are."""
        yield

    def check(self, names: Iterable[str]) -> None:
        """Refuse what is no layer, or has no weights."""
        for name in names:
            if name not in self.layers:
                raise Refusal(
                    f"{self.name} has no layer {name!r}; {closest(name, tuple(self.layers))}  likeness "
                    f"features --layers {self.name} shows all."
                )
            if why := self.lost.get(name):
                whole = [n for n in self.layers if n not in self.lost]
                raise Refusal(
                    f"{self.name} cannot be asked for {name}: {why}.  The deepest layer that it can answer "
                    f"for is {whole[-1]}."
                )


def becomes_tokens(net: Probe, layer: str) -> bool:
    """Whether places are told one after another from there on, (places, C), as in a transformer."""
    after = list(net.layers)
    return any(len(net.layers[name]) == 2 for name in after[after.index(layer) + 1 :])


# Layers


class Conv(nn.Conv2d):
    """A convolution as Keras makes it: `same` divides odd padding so that the larger part stands right and
    below."""

    def __init__(
        self,
        inside: int,
        out: int,
        kernel: int,
        stride: int = 1,
        *,
        pad: int | str = "same",
        groups: int = 1,
        bias: bool = True,
        relu: bool = False,
    ):
        self.same = pad == "same" and stride > 1
        super().__init__(
            inside,
            out,
            kernel,
            stride,
            kernel // 2 if pad == "same" and stride == 1 else 0 if self.same else int(pad),
            groups=groups,
            bias=bias,
        )
        self.relu = relu
        self.kernels: Tensor | None = None
        self.back: Tensor | None = None

    def hurry(self, gradient: bool = False) -> None:
        """By the shorter way of winograd.py where there is one, until `kernels` is removed: they know nothing
        of new weights.  Where a gradient is wanted, that of the image only, `gradient` says so."""
        usual = (
            self.kernel_size == (3, 3)
            and self.stride == (1, 1)
            and self.padding == (1, 1)
            and self.groups == 1
        )
        if (
            usual
            and min(self.in_channels, self.out_channels) >= winograd.NARROW
            and self.weight.device.type == "cpu"
        ):
            self.kernels = winograd.kernels(self.weight)
            self.back = winograd.kernels(winograd.transposed(self.weight)) if gradient else None

    def forward(self, x: Tensor) -> Tensor:
        if self.kernels is None:
            return self.by(x, self.weight, self.bias)
        slopes = torch.is_grad_enabled()
        plain = x.dtype != torch.float32 or torch.is_autocast_enabled(x.device.type)
        plain = plain or (slopes and self.back is None)
        if not plain and x.shape[2] * x.shape[3] * self.weight.numel() >= winograd.LEAST:
            if slopes and self.back is not None:
                y: Tensor = winograd.Through.apply(x, self.kernels, self.back, self.bias, self.relu)
                return y
            return winograd.convolve(x, self.kernels, self.bias, self.relu)
        return self.by(x, self.weight, self.bias)

    def by(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same with other weights."""
        if self.same:
            x = F.pad(
                x,
                (
                    *_halves(x.shape[3], self.kernel_size[1], self.stride[1]),
                    *_halves(x.shape[2], self.kernel_size[0], self.stride[0]),
                ),
            )
        slow = (
            self.groups > 1
            and self.stride != (1, 1)
            and x.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
        )
        # 20 times as long back through it in bf16 as in fp32 (torch 2.13)
        slow = slow and x.requires_grad and torch.is_grad_enabled()
        with torch.autocast("cpu", enabled=False) if slow else nullcontext():
            y = F.conv2d(
                x.float() if slow else x, weight, bias, self.stride, self.padding, self.dilation, self.groups
            )
        return F.relu_(y) if self.relu else y


def _halves(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind, with which ceil(size / stride) places come out (TensorFlow's SAME)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Norm(nn.Module):
    """Batch normalisation by the averages of training."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )

    def folded(self, conv: Conv) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that does what `conv` and this do after each other."""
        gain = self.weight * (self.running_var + self.eps).rsqrt()
        bias = -self.running_mean if conv.bias is None else conv.bias - self.running_mean
        return conv.weight * gain.view(-1, 1, 1, 1), self.bias + bias * gain


class Relu(nn.Module):
    def __init__(self, top: float = 0.0):
        """top: what is larger is cut off; 0 is no limit."""
        super().__init__()
        self.top = top

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        return F.hardtanh(x, 0.0, self.top, inplace) if self.top else F.relu(x, inplace)


class Pad(nn.Module):
    """Zeros around: left, right, above and below."""

    def __init__(self, *sides: int):
        super().__init__()
        self.sides = sides

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.sides)


class PadForStride(nn.Module):
    """Zeros for a 3x3 convolution of stride 2: none before an even side, one before an odd one, one behind
    (keras' correct_pad)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1))


class Add(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Concat(nn.Module):
    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, 1)


class MeanPool(nn.Module):
    """The mean over all places, (B, C, H, W) to (B, C), or to (B, C, 1, 1) where the places are kept."""

    def __init__(self, keep: bool = False):
        super().__init__()
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=self.keep)


class Flatten(nn.Module):
    """(B, C, H, W) to (B, H W C), the order in which Keras has its pixels, so that its weights fit behind."""

    def forward(self, x: Tensor) -> Tensor:
        return rows(x)


class Dense(nn.Linear):
    def __init__(self, inside: int, out: int, relu: bool = False):
        super().__init__(inside, out)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.in_features:
            raise Refusal(
                f"a layer that is fully connected takes {self.in_features:,} values, and images of this "
                f"size become {x.shape[1]:,}"
            )
        y = super().forward(x)
        return F.relu_(y) if self.relu else y


class Softmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(1)


def rows(x: Tensor) -> Tensor:
    """A layer's output as a row an image, channels last as Keras flattens it: (B, C, H, W) to (B, H W C)."""
    return (x.movedim(1, -1) if x.ndim == 4 else x).flatten(1)


# A network that is written down


class Step(NamedTuple):
    """One layer's turn: `fold` is the convolution just before it that is done with it in one, `dead` what
    nobody needs afterwards."""

    name: str
    inputs: tuple[str, ...]
    fold: str
    inplace: bool
    dead: tuple[str, ...]


class Graph(Probe):
    """Layers with Keras' names, in Keras' order.

    Where a batch norm follows a convolution whose own output is not asked for, the two are one convolution;
    what nobody asked for is overwritten or let go as soon as it has served.
    """

    def __init__(self, name: str, side: int, input: Input, least: int = 32):
        super().__init__()
        self.name, self.side, self.input, self.least = name, side, input, least
        self.nodes = nn.ModuleDict()
        self.parents: dict[str, tuple[str, ...]] = {}
        self.plans: dict[frozenset[str], list[Step]] = {}
        self.last = INPUT

    def add(self, name: str, layer: nn.Module, *inputs: str) -> str:
        """A layer after `inputs`, or after the one added last; returns its name."""
        self.nodes[name], self.parents[name], self.last = layer, inputs or (self.last,), name
        return name

    def measured(self) -> dict[str, Shape]:
        """The output of each layer for images of `side` pixels, without the batch; made on `meta`, where
        nothing is computed."""
        side = self.side
        outputs = self(torch.empty(1, 3, side, side, device="meta"), [INPUT, *self.nodes])
        return {name: tuple(y.shape[1:]) for name, y in outputs.items()}

    def fields(self) -> dict[str, int]:
        """How many pixels a side each place of a layer sees (its receptive field), and 0 for the
        whole image."""
        seen: dict[str, tuple[int, int]] = {INPUT: (1, 1)}
        for name, layer in self.nodes.items():
            size, step = max(seen[p] for p in self.parents[name])
            if isinstance(layer, (Conv, nn.MaxPool2d)):
                kernel, stride = (
                    v if isinstance(v, int) else v[0] for v in (layer.kernel_size, layer.stride)
                )
                size, step = (size + (kernel - 1) * step if size else 0), step * stride
            elif isinstance(layer, (MeanPool, Flatten)):
                size = 0
            seen[name] = size, step
        return {name: size for name, (size, _) in seen.items()}

    def prepare(self, x: Tensor) -> Tensor:
        return self.input.of(x).contiguous(memory_format=torch.channels_last)

    def outputs(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        self.check(names)
        if min(x.shape[2:]) < self.least:
            raise Refusal(
                f"{self.name} looks at images of {self.least} pixels a side or more, and these have "
                f"{x.shape[3]}x{x.shape[2]}; enlarge them."
            )
        try:
            result: dict[str, Tensor] = self(self.prepare(x), names)
        except Refusal as why:
            raise Refusal(
                f"{self.name}: {why}; give it {self.side}x{self.side}, or name a layer that comes before."
            ) from None
        return result

    @contextmanager
    def hurried(self, names: Sequence[str]) -> Iterator[None]:
        layers = [layer for step in self.steps(names) if isinstance(layer := self.nodes[step.name], Conv)]
        try:
            for layer in layers:
                layer.hurry()
            yield
        finally:
            for layer in layers:
                layer.kernels = None

    def steps(self, names: Sequence[str]) -> list[Step]:
        wanted = frozenset(names)
        if wanted not in self.plans:
            self.plans[wanted] = list(self._plan(wanted))
        return self.plans[wanted]

    def used(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The weights on which these layers depend, by name."""
        on_the_way = {name for step in self.steps(names) for name in (step.name, step.fold)}
        return {
            name: value
            for name, value in self.nodes.state_dict().items()
            if name.rpartition(".")[0] in on_the_way
        }

    def forward(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Outputs of layers for images that are prepared."""
        there = {INPUT: x}
        for step in self.steps(names):
            layer, inputs = self.nodes[step.name], [there[p] for p in step.inputs]
            if step.fold:
                conv = self.nodes[step.fold]
                assert isinstance(conv, Conv) and isinstance(layer, Norm)
                # anew each time, since somebody may have changed them: a fiftieth of the work
                weight, bias = layer.folded(conv)
                there[step.name] = conv.by(inputs[0], weight, bias)
            else:
                there[step.name] = layer(*inputs, inplace=True) if step.inplace else layer(*inputs)
            for name in step.dead:
                del there[name]
        return {name: there[name] for name in names}

    def _plan(self, wanted: frozenset[str]) -> Iterator[Step]:
        """The layers that lead to the wanted ones, and nothing else."""
        needed = set(wanted)
        for name in reversed(list(self.nodes)):
            if name in needed:
                needed |= set(self.parents[name])
        order = [name for name in self.nodes if name in needed]
        uses = Counter(p for name in order for p in self.parents[name])
        spare = {name for name in order if uses[name] == 1 and name not in wanted}
        folds = {
            name: p
            for name in order
            if isinstance(self.nodes[name], Norm)
            and (p := self.parents[name][0]) in spare
            and isinstance(self.nodes[p], Conv)
        }
        order = [name for name in order if name not in folds.values()]
        inputs = {name: self.parents[folds.get(name, name)] for name in order}
        last = {p: name for name in order for p in inputs[name]}
        for name in order:
            before = inputs[name][0]
            own = (
                isinstance(self.nodes[name], Relu)
                and before in spare
                and isinstance(self.nodes[before], (Conv, Norm, Add))
            )
            dead = tuple(p for p in dict.fromkeys(inputs[name]) if last[p] == name and p not in wanted)
            yield Step(name, inputs[name], folds.get(name, ""), own, dead)


INPUT = "input_layer"


# Anybody's network


class _Enough(Exception):
    """All that was asked for is there; it never leaves this file."""


class Hooked(Probe):
    """A module of anybody's, asked for the outputs of its sub-modules.

    answers: what the network says of prepared images, by name; each is a layer, too, and comes after those
    that it needs. A sub-module is a layer if it is called once and gives one tensor that keeps the images
    apart.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        answers: dict[str, Callable[[Tensor], Tensor]],
        prepare: Callable[[Tensor], Tensor],
        shape: Shape,
    ):
        super().__init__()
        self.name, self.module, self.answers, self.made = name, module, answers, prepare
        self.side = shape[-1]
        self.paths = dict(module.named_modules())
        self.layers = self._walk(shape)

    def prepare(self, x: Tensor) -> Tensor:
        return self.made(x)

    def outputs(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        self.check(names)
        result: dict[str, Tensor] = {}
        inner = [n for n in names if n not in self.answers]

        def hear(name: str, y: Any) -> None:
            result[name] = y
            if len(result) == len(set(names)):
                raise _Enough

        x = self.prepare(x)
        with self._heard(inner, hear), suppress(_Enough):
            for name, answer in self.answers.items():
                if name in names:
                    result[name] = answer(x)
                elif not result.keys() >= set(inner):
                    answer(x)
        return {name: result[name] for name in names}

    @contextmanager
    def _heard(self, names: Iterable[str], hear: Callable[[str, Any], None]) -> Iterator[None]:
        """hear(name, output) is called for each of these sub-modules, as often as it is."""
        hooks = [self.paths[n].register_forward_hook(lambda m, i, y, n=n: hear(n, y)) for n in names]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _walk(self, shape: Shape) -> dict[str, Shape]:
        """Sub-modules in the order in which they end, and after them the answers."""
        x, result, content = (
            self.prepare(torch.zeros(2, *shape, device=next(self.module.parameters()).device)),
            dict[str, Shape](),
            dict[str, Shape](),
        )
        for name, answer in self.answers.items():
            heard: list[tuple[str, Any]] = []

            def hear(name: str, y: Any, heard: list[tuple[str, Any]] = heard) -> None:
                heard.append((name, y))

            with self._heard(filter(None, self.paths), hear), torch.no_grad():
                content[name] = tuple(answer(x).shape[1:])
            often = Counter(n for n, _ in heard)
            result |= {
                n: tuple(y.shape[1:])
                for n, y in heard
                if often[n] == 1 and isinstance(y, Tensor) and y.ndim > 1 and len(y) == 2
            }
        return result | content
