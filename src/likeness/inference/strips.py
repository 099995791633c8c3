"""A network of convolutions over an image that its layers are too large for, in strips of rows.

A photo of 12 megapixels needs 1.5 GB for 32 channels at full size, and a layer holds two or three such.  So
the network is walked twice.  First it runs on a `Strips`, a tensor that has a shape and no numbers: each
operation on it only writes down which rows of its input its own rows need.  Then rows of the result are asked
for, a strip at a time, and computed with just the rows before them that they depend on: the result is that of
the whole image, up to the order in which sums are rounded.  There are no seams, because there are no tiles.

What depends on all rows at once, such as the mean and variance of an instance normalisation, is computed on
the way, strip by strip as well, and added up in float64 (Chan, Golub & LeVeque, "Updating Formulae and a
Pairwise Algorithm for Computing Sample Variances", 1979).  What that pass has computed is kept if it is
small, such as the trunk of a generator at a quarter of the size; what is large is computed anew when it is
needed.
How large is small is decided beforehand: the walk is tried without numbers, which costs nothing, for each
limit that makes a difference, and the cheapest that stays within the budget of memory is taken.

Any operation that is not known here is given the whole image, so that it is right, and needs its memory.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import engine

BUDGET = 2_300_000_000
"""bytes that tensors may take: 3 GB less what Python, PyTorch, the photo and the result take"""
WORKING = 300_000_000
"""of these, for the strip that is being computed"""
SLOWER = 2.0
"""times the work of the quickest way that is worth staying within the budget"""
SUMMED = 1 << 20
"""numbers that are added up in fp32 before float64"""
DEEP = 8
"""windowed operations after which a small result is kept, so that what a strip needs does not grow on and
on"""
HEIGHTS = (*range(1024, 64, -64), 64, 48, 32, 24, 16, 8, 4, 2, 1)
Span = tuple[int, int]
"""rows: the first, and the one after the last"""
Part = tuple[Tensor, int]
"""rows of a tensor, and the number of the first"""
Rows = Callable[[int, int], Tensor]


class Node:
    """What is known of a tensor (B, C, H, W): how rows of it come from rows of others."""

    def __init__(
        self,
        job: Job,
        shape: Sequence[int],
        parents: Sequence[Node],
        needs: Callable[[Span], Sequence[Span]],
        compute: Callable[[Span, Sequence[Part]], Tensor],
        work: float = 8.0,
        window: bool = False,
    ):
        """needs: rows of each parent for rows of this.  work: operations for one number of this."""
        self.job, self.shape, self.parents, self.needs, self.compute = (
            job,
            tuple(shape),
            parents,
            needs,
            compute,
        )
        self.per_row = math.prod(self.shape) // max(1, self.shape[2])
        self.work = work * self.per_row
        self.deep: int = max((p.deep for p in parents), default=0) + window
        self.kept: Tensor | None = None
        self.held = 0
        """bytes that are kept"""
        self.holder: weakref.ref[Strips] | None = None

    @property
    def height(self) -> int:
        return self.shape[2]

    @property
    def bytes(self) -> int:
        return self.per_row * self.height * self.job.bytes

    @property
    def wanted(self) -> bool:
        """Somebody may still ask for it: the model holds its tensor."""
        return self.holder is not None and self.holder() is not None

    def keep(self, x: Tensor | None) -> None:
        """From now on it needs nobody; None where the walk is tried without numbers."""
        self.kept, self.parents, self.deep = x, (), 0
        self.needs, self.compute = _alone, _nothing  # whose closures would keep the parents
        self.hold()

    def hold(self) -> None:
        self.held = self.bytes
        self.job.hold(self.held)

    def __del__(self) -> None:
        if self.held:
            self.job.hold(-self.held)


def _alone(span: Span) -> Sequence[Span]:
    return ()


def _nothing(*args: Any) -> Any:
    raise AssertionError("rows of what is kept are not computed")


@dataclass
class Job:
    """One walk of a network over one image."""

    limit: float = math.inf
    """bytes of a tensor that is kept, at most"""
    dry: bool = False
    """without numbers"""
    bytes: int = 4
    """of a number"""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    notify: Callable[[float], None] = lambda done: None
    """is called with how many operations are done"""
    done: float = 0.0
    holding: int = 0
    peak: int = 0
    sizes: set[int] = field(default_factory=set)
    """bytes of tensors that might have been kept"""

    def hold(self, more: int) -> None:
        self.holding += more
        self.peak = max(self.peak, self.holding)

    def node(self, *args: Any, **more: Any) -> Strips:
        return Strips.of(Node(self, *args, **more))

    def source(self, shape: Sequence[int], rows: Rows) -> Strips:
        """An image whose rows a..b are rows(a, b), (B, C, b - a, W)."""
        return self.node(shape, (), lambda span: (), lambda span, parts: rows(*span), work=0.0)


# Computing rows


def _order(node: Node) -> list[Node]:
    """The node and all that it needs, what is needed first."""
    out, seen, todo = list[Node](), set[int](), [(node, False)]
    while todo:
        at, ready = todo.pop()
        if ready:
            out.append(at)
        elif id(at) not in seen:
            seen.add(id(at))
            todo += [(at, True), *((p, False) for p in at.parents)]
    return out


def _spans(order: Sequence[Node], span: Span) -> dict[int, Span]:
    """Of each node, the rows that rows `span` of the last one need."""
    out = {id(order[-1]): span}
    for node in reversed(order):
        if id(node) not in out:
            continue
        for parent, (lo, hi) in zip(node.parents, node.needs(out[id(node)])):
            lo, hi = max(0, min(lo, parent.height)), max(0, min(hi, parent.height))
            if hi > lo:
                was = out.get(id(parent), (lo, hi))
                out[id(parent)] = min(lo, was[0]), max(hi, was[1])
            elif id(parent) not in out:
                out[id(parent)] = lo, hi
    return out


def _last_uses(order: Sequence[Node]) -> dict[int, int]:
    """The place in the order behind which a node is of no use."""
    return {id(parent): at for at, node in enumerate(order) for parent in node.parents}


def _peak(order: Sequence[Node], spans: dict[int, Span]) -> int:
    """Bytes that computing these rows takes at most."""
    last, there, most = _last_uses(order), dict[int, int](), 0
    for at, node in enumerate(order):
        lo, hi = spans.get(id(node), (0, 0))
        leaf = node.kept is not None or node.held
        there[id(node)] = 0 if leaf else node.per_row * (hi - lo) * node.job.bytes
        # a convolution may rearrange what it reads and what it writes
        most = max(most, sum(there.values()) + there[id(node)])
        for parent in node.parents:
            if last[id(parent)] == at:
                there.pop(id(parent), None)
    return most


def _height(order: Sequence[Node]) -> int:
    """Rows of the last node to compute at once."""
    full = order[-1].height
    for height in HEIGHTS:
        if height >= 2 * full:
            continue
        middle = max(0, (full - height) // 2)
        if _peak(order, _spans(order, (middle, min(full, middle + height)))) <= WORKING:
            break
    return max(1, min(height, full))


def _computed(order: Sequence[Node], spans: dict[int, Span], store: Callable[[Node, Part], None]) -> Tensor:
    """Rows of the last node.  store: is called with all rows that are computed on the way."""
    last, values = _last_uses(order), dict[int, Part]()
    for at, node in enumerate(order):
        lo, hi = spans.get(id(node), (0, 0))
        if node.kept is not None:
            values[id(node)] = node.kept[:, :, lo:hi], lo
        else:
            values[id(node)] = node.compute((lo, hi), [values[id(p)] for p in node.parents]), lo
            store(node, values[id(node)])
        for parent in node.parents:
            if last[id(parent)] == at:
                values.pop(id(parent), None)
    return values[id(order[-1])][0]


class _Keeper:
    """Gathers the rows of a node that strips compute one after another."""

    def __init__(self, node: Node):
        self.node, self.x, self.filled = node, None, 0

    def add(self, part: Part) -> None:
        rows, first = part
        last = first + rows.shape[2]
        if self.filled < 0 or last <= self.filled:
            return
        if first > self.filled:  # rows that nobody needed
            self.filled, self.x = -1, None
            return
        if self.x is None:
            self.x = _room(self.node.shape, rows)
        self.x[:, :, self.filled : last] = rows[:, :, self.filled - first :]
        self.filled = last

    x: Tensor | None

    def finish(self) -> None:
        if self.filled == self.node.height:
            self.node.keep(self.x)


def _room(shape: Sequence[int], like: Tensor) -> Tensor:
    """An empty image, channels last.  On a processor its memory goes back to the system with it: the heap of
    this process keeps what it has had (engine/device.py), and would have holes of this size."""
    b, c, h, w = shape
    if like.device.type != "cpu":
        return torch.empty(
            (b, c, h, w), dtype=like.dtype, device=like.device, memory_format=torch.channels_last
        )
    room = mmap.mmap(-1, max(1, b * c * h * w * like.element_size()))
    return torch.frombuffer(room, dtype=like.dtype)[: b * c * h * w].view(b, h, w, c).permute(0, 3, 1, 2)


def walk(node: Node, use: Callable[[Span, Tensor], None]) -> None:
    """Compute all rows of a node, a strip after another; what the model still holds and is small is kept."""
    job = node.job
    if node.kept is not None or (job.dry and node.held):
        if not job.dry:
            assert node.kept is not None
            use((0, node.height), node.kept)
        return
    order = _order(node)
    open_ = [n for n in order if n.kept is None and not n.held and n.parents]
    job.sizes |= {n.bytes for n in open_ if n.wanted}
    keepers = {id(n): _Keeper(n) for n in open_ if n.wanted and n.bytes <= job.limit}
    height = _height(order)
    if job.dry:
        _pretend(order, height, keepers)
        return
    for a in range(0, node.height, height):
        span = a, min(node.height, a + height)
        spans = _spans(order, span)

        def store(at: Node, part: Part) -> None:
            if id(at) in keepers:
                keepers[id(at)].add(part)
            job.done += at.work * part[0].shape[2]

        use(span, _computed(order, spans, store))
        job.notify(job.done)
    for keeper in keepers.values():
        keeper.finish()
    if job.device.type == "cpu":
        engine.give_back_memory()


def _pretend(order: Sequence[Node], height: int, keepers: dict[int, _Keeper]) -> None:
    """Count what walking would take."""
    job, full = order[-1].job, order[-1].height
    for a in range(0, full, height):
        spans = _spans(order, (a, min(full, a + height)))
        job.done += sum(
            n.work * (spans[id(n)][1] - spans[id(n)][0]) for n in order if id(n) in spans and not n.held
        )
    most = _peak(order, _spans(order, (mid := max(0, (full - height) // 2), min(full, mid + height))))
    keeping = sum(k.node.bytes for k in keepers.values())
    job.peak = max(job.peak, job.holding + keeping + most)
    for keeper in keepers.values():
        keeper.node.keep(None)


def whole(node: Node) -> Tensor:
    """All of it, where something is asked that cannot be done in strips."""
    if node.kept is not None:
        return node.kept
    if node.job.dry:
        walk(node, lambda span, rows: None)
        if not node.held:
            node.keep(None)
        return torch.empty(node.shape, device="meta")
    keeper = _Keeper(node)
    walk(node, lambda span, rows: keeper.add((rows, span[0])))
    if node.kept is None:
        node.keep(keeper.x)
    assert node.kept is not None
    return node.kept


def moments(node: Node) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over H and W, (B, C) in float64."""
    b, c = node.shape[:2]
    if node.job.dry:
        walk(node, lambda span, rows: None)
        return torch.zeros(b, c, dtype=torch.float64), torch.ones(b, c, dtype=torch.float64)
    count, mean, squares = 0, None, None

    def add(span: Span, rows: Tensor) -> None:
        nonlocal count, mean, squares
        # with channels last a row of this matrix is a pixel, and sums over rows are quick
        pixels = rows.permute(0, 2, 3, 1).reshape(len(rows), -1, rows.shape[1])
        for some in pixels.split(max(1, SUMMED // (b * c)), 1):
            x = some.float()
            n, own = x.shape[1], x.mean(1, keepdim=True)
            spread = (x - own).square_().sum(1).double()
            own = own[:, 0].double()
            if mean is None or squares is None:
                count, mean, squares = n, own, spread
                continue
            apart, total = own - mean, count + n
            squares = squares + spread + apart.square() * (count * n / total)
            mean, count = mean + apart * (n / total), total

    walk(node, add)
    assert mean is not None and squares is not None
    return mean, squares / count


# The tensor that has no numbers


class Strips(Tensor):
    """A shape, and a node: what a model is given in place of an image."""

    node: Node

    @staticmethod
    def of(node: Node) -> Strips:
        out = torch.empty(node.shape, device="meta").as_subclass(Strips)
        out.node = node
        node.holder = weakref.ref(out)
        return out

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), func.__name__
        if name == "__get__":
            return _attribute(func, args[0])
        with torch._C.DisableTorchFunctionSubclass():
            if name in ASKING:
                return func(*args, **kwargs)
            mutates = name not in PLAIN_UNDERSCORES and (
                (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")
            )
            plain = name.strip("_")
            plain = plain[1:] if name.startswith("__i") and plain not in ("invert", "index") else plain
            kwargs.pop("inplace", None) if kwargs.get("inplace") else None
            if (handler := HANDLERS.get(plain)) is not None:
                out = handler(func, args, kwargs)
            else:
                out = _elementwise(plain, func, args, kwargs, mutates)
            if out is NotImplemented:
                out = _whole_images(plain if mutates else "", func, args, kwargs)
        if mutates and isinstance(args[0], Strips) and isinstance(out, Strips):
            args[0].node = out.node
            args[0].node.holder = weakref.ref(args[0])
            return args[0]
        return _checked(out)


ASKING = {
    "size", "dim", "stride", "numel", "is_contiguous", "is_floating_point", "is_complex", "element_size",
    "ndimension", "__len__", "nelement", "__hash__", "get_device",
}  # fmt: skip
"""what is asked of a tensor's shape"""
PLAIN_UNDERSCORES = {"__init__", "__index__", "__invert__", "__getitem__"}


def _attribute(func: Any, x: Strips) -> Any:
    attribute = getattr(func, "__self__", None)
    if getattr(attribute, "__name__", "") == "device":
        return x.node.job.device
    if getattr(attribute, "__name__", "") in ("mT", "T", "data"):
        return _wrapped(x.node.job, func(whole(x.node)), x.node.shape)
    with torch._C.DisableTorchFunctionSubclass():
        return func(x)


def _checked(out: Any) -> Any:
    """Keep what a chain of many windows has come to, if it is small: else each strip needs more and more rows
    before it."""
    if isinstance(out, Strips) and out.node.deep >= DEEP and out.node.bytes <= out.node.job.limit:
        node = out.node
        node.job.sizes.add(node.bytes)
        walk(node, lambda span, rows: None)
    elif isinstance(out, Strips) and out.node.deep >= DEEP:
        out.node.job.sizes.add(out.node.bytes)
    return out


def _materialised(value: Any) -> Any:
    if isinstance(value, Strips):
        return whole(value.node)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_materialised, value))
    return {k: _materialised(v) for k, v in value.items()} if isinstance(value, dict) else value


def _first(value: Any) -> Strips | None:
    """The first of them anywhere in arguments."""
    if isinstance(value, Strips):
        return value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return next((found for part in parts if (found := _first(part)) is not None), None)


def _whole_images(mutating: str, func: Any, args: Any, kwargs: Any) -> Any:
    """An operation that is not known here, on whole images."""
    found = _first([args, kwargs])
    assert found is not None
    job, shape = found.node.job, found.node.shape
    args, kwargs = _materialised(args), _materialised(kwargs)
    if mutating and (plain := getattr(Tensor, mutating, None)) is not None:
        func = plain
    if job.dry:  # weights have numbers, and the image has none
        args, kwargs = _meta(args), _meta(kwargs)
    out = func(*args, **kwargs)
    return _wrapped(job, out, shape)


def _meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, (list, tuple)):
        return type(value)(map(_meta, value))
    return {k: _meta(v) for k, v in value.items()} if isinstance(value, dict) else value


def _wrapped(job: Job, out: Any, like: Sequence[int]) -> Any:
    """Results that are images again go on in strips."""
    if isinstance(out, (list, tuple)):
        return type(out)([_wrapped(job, one, like) for one in out])
    if isinstance(out, Tensor) and out.ndim == 4 and out.shape[2] * out.shape[3] > 1:
        strips = job.node(out.shape, (), lambda span: (), lambda span, parts: parts)
        strips.node.kept = None if job.dry else out
        strips.node.hold()
        return strips
    return torch.ones(out.shape) if job.dry and isinstance(out, Tensor) else out


def _cut(part: Part, lo: int, hi: int) -> Tensor:
    rows, first = part
    return rows if (first, first + rows.shape[2]) == (lo, hi) else rows[:, :, lo - first : hi - first]


# Operations on each number


NUMBERWISE = {
    "relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "mish", "softplus", "softsign",
    "hardtanh", "hardswish", "hardsigmoid", "tanh", "sigmoid", "exp", "log", "sqrt", "rsqrt", "square",
    "abs", "neg", "pow", "clamp", "clip", "clamp_min", "clamp_max", "clone", "detach", "contiguous",
    "float", "bfloat16", "half", "to", "type", "type_as", "add", "radd", "sub", "rsub", "mul", "rmul",
    "div", "rdiv", "truediv", "rtruediv", "true_divide", "divide", "multiply", "subtract", "negative",
    "absolute", "maximum", "minimum", "lerp", "addcmul", "erf", "sin", "cos", "nan_to_num", "round",
    "floor", "reciprocal", "alias", "positive", "where", "gt", "lt", "ge", "le", "threshold", "log1p",
    "expm1", "requires_grad", "sign",
}  # fmt: skip
"""names of functions that take no number for another's sake"""


def _elementwise(plain: str, func: Any, args: Any, kwargs: Any, mutates: bool) -> Any:
    """Of images of one height, numbers, and tensors that are the same for all rows."""
    if plain not in NUMBERWISE:
        return NotImplemented
    if mutates:
        func = getattr(Tensor, plain)
    flat = [*args, *kwargs.values()]
    if any(isinstance(v, (list, tuple, dict)) and _first(v) is not None for v in flat):
        return NotImplemented
    images = [v for v in flat if isinstance(v, Strips)]
    others = [v for v in flat if isinstance(v, Tensor) and not isinstance(v, Strips)]
    numbers = plain == "prelu"
    if not numbers and any(v.ndim > 1 and v.ndim >= 2 and v.shape[-2] != 1 for v in others):
        return NotImplemented
    if len({(v.node.height) for v in images}) > 1:
        return NotImplemented
    job, nodes = images[0].node.job, [v.node for v in images]
    shape = torch.broadcast_shapes(*(v.node.shape for v in images), *(v.shape for v in others if not numbers))
    names = list(kwargs)
    if plain == "to" and any(isinstance(v, (torch.device, str)) for v in flat):
        return images[0]

    def compute(span: Span, parts: Sequence[Part]) -> Tensor:
        left = iter(parts)
        put = [_cut(next(left), *span) if isinstance(v, Strips) else v for v in flat]
        return func(*put[: len(args)], **dict(zip(names, put[len(args) :])))

    return job.node(shape, nodes, lambda span: [span] * len(nodes), compute)


def _same(func: Any, args: Any, kwargs: Any) -> Any:
    """Nothing happens to an image: dropout, where nothing is learnt."""
    training = kwargs.get("training", args[2] if len(args) > 2 else True)
    return args[0] if not training else NotImplemented


# Windows


def _pair(value: Any) -> tuple[int, int]:
    a, b = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
    a, b = (v[0] if isinstance(v, (tuple, list)) else v for v in (a, b))
    return int(a), int(b)


def _fitting(n: int, padding: int, reach: int, stride: int) -> int:
    """Places of a window that sees `reach` pixels more than one, in n pixels."""
    return (n + 2 * padding - reach - 1) // stride + 1


def _bound(names: Sequence[str], args: Any, kwargs: Any, **defaults: Any) -> dict[str, Any]:
    return defaults | dict(zip(names, args)) | kwargs


def _window(
    x: Strips,
    shape: Sequence[int],
    kernel: int,
    stride: int,
    before: int,
    apply: Callable[[Tensor], Tensor],
    work: float,
) -> Strips:
    """Row i of the result sees rows i * stride - before and `kernel - 1` more; zeros lie around the image."""
    node = x.node

    def rows(span: Span) -> Span:
        return span[0] * stride - before, (span[1] - 1) * stride - before + kernel

    def compute(span: Span, parts: Sequence[Part]) -> Tensor:
        lo, hi = rows(span)
        first, last = (min(max(row, 0), node.height) for row in (lo, hi))
        inside, above, below = _cut(parts[0], first, last), min(0, hi) - min(0, lo), hi - lo
        below -= above + last - first
        return apply(F.pad(inside, (0, 0, above, below)) if above or below else inside)

    return node.job.node(shape, (node,), lambda span: (rows(span),), compute, work, True)


def _conv2d(func: Any, args: Any, kwargs: Any) -> Any:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    at = _bound(names, args, kwargs, bias=None, stride=1, padding=0, dilation=1, groups=1)
    x, weight = at["input"], at["weight"]
    if not isinstance(x, Strips) or isinstance(weight, Strips):
        return NotImplemented
    stride, dilation = _pair(at["stride"]), _pair(at["dilation"])
    reach = tuple(d * (k - 1) for d, k in zip(dilation, weight.shape[2:]))
    padding = at["padding"]
    if padding == "valid":
        padding = 0
    if padding == "same":
        if any(r % 2 for r in reach):
            return NotImplemented
        padding = tuple(r // 2 for r in reach)
    up, side = _pair(padding)
    b, _, h, w = x.node.shape
    high, wide = (_fitting(n, p, r, s) for n, p, r, s in zip((h, w), (up, side), reach, stride))
    shape = b, weight.shape[0], high, wide
    work = 2.0 * math.prod(weight.shape[1:])

    def apply(rows: Tensor) -> Tensor:
        return F.conv2d(rows, weight, at["bias"], stride, (0, side), dilation, at["groups"])

    return _window(x, shape, reach[0] + 1, stride[0], up, apply, work)


def _conv_transpose2d(func: Any, args: Any, kwargs: Any) -> Any:
    names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    usual = dict(bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1)
    at = _bound(names, args, kwargs, **usual)
    x, weight = at["input"], at["weight"]
    if not isinstance(x, Strips):
        return NotImplemented
    (p, side), more, groups = _pair(at["padding"]), _pair(at["output_padding"]), at["groups"]
    stride, dilation, node = _pair(at["stride"]), _pair(at["dilation"]), x.node
    reaches = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:])]
    high, wide = (
        (n - 1) * s - 2 * q + r + m + 1
        for n, s, q, r, m in zip(node.shape[2:], stride, (p, side), reaches, more)
    )
    shape, s, reach = (node.shape[0], weight.shape[1] * groups, high, wide), stride[0], reaches[0]

    def rows(span: Span) -> Span:
        lo = max(0, min((span[0] + p - reach) // s, node.height - 1))
        gaps = reach < s - 1  # rows that see nothing but the bias lie before the next one that sees something
        return lo, max(lo + 1, min(node.height, (span[1] - 1 + p) // s + 1 + gaps))

    def compute(span: Span, parts: Sequence[Part]) -> Tensor:
        lo, hi = rows(span)
        out = F.conv_transpose2d(
            _cut(parts[0], lo, hi), weight, at["bias"], stride, (0, side), more, groups, dilation
        )
        first = lo * s - p
        return out[:, :, span[0] - first : span[1] - first]

    work = 2.0 * weight.shape[0] // groups * math.prod(weight.shape[2:]) / math.prod(stride)
    return node.job.node(shape, (node,), lambda span: (rows(span),), compute, work, True)


def _pool(func: Any, args: Any, kwargs: Any) -> Any:
    names = ("input", "kernel_size", "stride", "padding")
    at = _bound(names, args, kwargs, stride=None, padding=0)
    x, kernel = at["input"], _pair(at["kernel_size"])
    stride = kernel if at["stride"] in (None, (), []) else _pair(at["stride"])
    if _pair(at["padding"]) != (0, 0) or set(at) - set(names) or len(args) > 4:
        return NotImplemented
    b, c, h, w = x.node.shape
    shape = b, c, *(_fitting(n, 0, k - 1, s) for n, k, s in zip((h, w), kernel, stride))
    return _window(
        x, shape, kernel[0], stride[0], 0, lambda rows: func(rows, kernel, stride), math.prod(kernel)
    )


def _pad(func: Any, args: Any, kwargs: Any) -> Any:
    at = _bound(("input", "pad", "mode", "value"), args, kwargs, mode="constant", value=None)
    x, pad, mode, value = at["input"], list(at["pad"]), at["mode"], at["value"] or 0.0
    if len(pad) > 4 or mode not in ("constant", "reflect", "replicate"):
        return NotImplemented
    left, right, top, bottom = (*pad, 0, 0, 0, 0)[:4]
    node, height = x.node, x.node.height
    b, c, h, w = node.shape
    if mode == "reflect" and (max(top, bottom) >= h or max(left, right) >= w):
        return NotImplemented  # which says so
    shape = b, c, h + top + bottom, w + left + right

    def source(row: int) -> int:
        """The row that is seen there; -1 is none."""
        at = row - top
        if mode == "constant":
            return at if 0 <= at < height else -1
        if mode == "replicate":
            return min(max(at, 0), height - 1)
        at = abs(at)
        return 2 * (height - 1) - at if at >= height else at

    def needs(span: Span) -> Span:
        seen = [s for row in (*_edge(span, top, height), span[0], span[1] - 1) if (s := source(row)) >= 0]
        return (min(seen), max(seen) + 1) if seen else (0, 0)

    def compute(span: Span, parts: Sequence[Part]) -> Tensor:
        lo, hi = needs(span)
        inside = _cut(parts[0], lo, hi)
        with torch.autocast(inside.device.type, enabled=False):  # which has reflection in fp32
            wide = F.pad(inside, (left, right, 0, 0), mode, value) if left or right else inside
        above = max(0, min(span[1], top) - span[0])
        below = max(0, span[1] - max(span[0], top + height))
        first = min(max(span[0] - top, 0), height) - lo
        middle = wide[:, :, first : first + span[1] - span[0] - above - below]
        if not above and not below:
            return middle
        if mode == "constant":
            return F.pad(middle, (0, 0, above, below), "constant", value)
        # parts, since selecting all rows by number would lose channels last
        parts_ = [(span[0], span[0] + above), (span[1] - below, span[1])]
        first_rows, last_rows = (
            wide[:, :, [source(row) - lo for row in range(*part)]] if part[0] < part[1] else None
            for part in parts_
        )
        return torch.cat([rows for rows in (first_rows, middle, last_rows) if rows is not None], 2)

    return node.job.node(shape, (node,), lambda span: (needs(span),), compute)


def _edge(span: Span, top: int, height: int) -> Iterator[int]:
    """Rows of a padded image, within the span, at which the order of its source turns round."""
    return (row for row in (top, top + height - 1) if span[0] <= row < span[1])


def _pixel_shuffle(func: Any, args: Any, kwargs: Any) -> Any:
    x, r = args[0], int(kwargs.get("upscale_factor", args[1] if len(args) > 1 else 1))
    b, c, h, w = x.node.shape
    return _finer(x, (b, c // r**2, h * r, w * r), r, lambda rows: F.pixel_shuffle(rows, r), 0)


def _pixel_unshuffle(func: Any, args: Any, kwargs: Any) -> Any:
    x, r = args[0], int(kwargs.get("downscale_factor", args[1] if len(args) > 1 else 1))
    b, c, h, w = x.node.shape
    shape = b, c * r**2, h // r, w // r
    return _window(x, shape, r, r, 0, lambda rows: F.pixel_unshuffle(rows, r), 1.0)


def _finer(x: Strips, shape: Sequence[int], r: int, apply: Callable[[Tensor], Tensor], margin: int) -> Strips:
    """Each row becomes r, which depend on `margin` rows to each side of it."""
    node = x.node

    def rows(span: Span) -> Span:
        return max(0, span[0] // r - margin), min(node.height, -(-span[1] // r) + margin)

    def compute(span: Span, parts: Sequence[Part]) -> Tensor:
        lo, hi = rows(span)
        return apply(_cut(parts[0], lo, hi))[:, :, span[0] - lo * r : span[1] - lo * r]

    return node.job.node(shape, (node,), lambda span: (rows(span),), compute, 16.0, margin > 0)


REACH = {"nearest": 0, "nearest-exact": 0, "bilinear": 2, "bicubic": 3}
"""rows to each side that an enlargement looks at, and one more"""


def _interpolate(func: Any, args: Any, kwargs: Any) -> Any:
    names = ("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
    at = _bound(names, args, kwargs, mode="nearest", align_corners=None, antialias=False)
    x, mode, size = at["input"], at["mode"], at.get("size")
    b, c, h, w = x.node.shape
    if size is None:
        scale = (
            at["scale_factor"] if isinstance(at["scale_factor"], (tuple, list)) else (at["scale_factor"],) * 2
        )
        size = int(h * scale[0]), int(w * scale[1])
    high, wide = _pair(size)
    r, shape = max(1, high // h), (b, c, high, wide)
    if mode not in REACH or at["align_corners"] or (high, wide) != (r * h, r * w):
        return NotImplemented
    more = dict(mode=mode, antialias=at["antialias"]) if mode.startswith("bi") else dict(mode=mode)

    def apply(rows: Tensor) -> Tensor:
        return F.interpolate(rows, size=(rows.shape[2] * r, wide), **more)

    return _finer(x, shape, r, apply, REACH[mode])


# What joins and divides channels


def _cat(func: Any, args: Any, kwargs: Any) -> Any:
    at = _bound(("tensors", "dim"), args, kwargs, dim=0)
    tensors, dim = at["tensors"], at["dim"] % 4
    if len(tensors) == 1:
        return tensors[0]
    if not all(isinstance(t, Strips) for t in tensors) or dim != 1:
        return NotImplemented
    nodes = [t.node for t in tensors]
    if len({n.height for n in nodes}) > 1:
        return NotImplemented
    b, _, h, w = nodes[0].shape
    shape = b, sum(n.shape[1] for n in nodes), h, w

    def compute(span: Span, parts: Sequence[Part]) -> Tensor:
        return torch.cat([_cut(part, *span) for part in parts], 1)

    return nodes[0].job.node(shape, nodes, lambda span: [span] * len(nodes), compute)


def _split(func: Any, args: Any, kwargs: Any) -> Any:
    """Over channels, or over the batch, of which there is one."""
    at = _bound(("x", "count", "dim"), args, kwargs, dim=0)
    x, dim, count = at["x"], at["dim"] % 4, at.get("count", at.get("split_size", at.get("chunks")))
    if dim == 0 and x.node.shape[0] == 1:
        return (x,)
    if dim != 1 or not isinstance(count, (int, tuple, list)):
        return NotImplemented
    channels = x.node.shape[1]
    if isinstance(count, int):
        each = -(-channels // count) if func.__name__ == "chunk" else count
        count = [min(each, channels - at) for at in range(0, channels, each)]
    ends = list(accumulate(count))
    return tuple(_channels(x, end - n, end) for n, end in zip(count, ends))


def _channels(x: Strips, lo: int, hi: int) -> Strips:
    (b, _, h, w), node = x.node.shape, x.node

    def compute(span: Span, parts: Sequence[Part]) -> Tensor:
        return _cut(parts[0], *span)[:, lo:hi]

    return node.job.node((b, max(0, hi - lo), h, w), (node,), lambda span: (span,), compute, 1.0)


def _getitem(func: Any, args: Any, kwargs: Any) -> Any:
    """Some of the channels, x[:, a:b]."""
    x, index = args
    if isinstance(x, Strips) and isinstance(index, tuple) and len(index) >= 2:
        rest, channels = [i for k, i in enumerate(index) if k != 1], index[1]
        if all(i in (slice(None), Ellipsis) for i in rest) and isinstance(channels, slice):
            lo, hi, step = channels.indices(x.node.shape[1])
            if step == 1:
                return _channels(x, lo, hi)
    return NotImplemented


# Statistics of the whole image


def _stretched(x: Strips, mean: Tensor, variance: Tensor, weight: Any, bias: Any, eps: float) -> Strips:
    """(x - mean) / sqrt(variance + eps) * weight + bias, of moments (B, C)."""
    scale = (variance.double() + eps).rsqrt()
    scale = scale * weight.double() if weight is not None else scale
    shift = -mean.double() * scale
    shift = shift + bias.double() if bias is not None else shift
    node = x.node
    a, b = scale.float().to(node.job.device), shift.float().to(node.job.device)
    zero, one = torch.zeros_like(a[0]), torch.ones_like(a[0])

    def compute(span: Span, parts: Sequence[Part]) -> Tensor:
        rows = _cut(parts[0], *span)
        # the one operation that mixes precisions without a copy in fp32
        each = [
            F.batch_norm(rows[i : i + 1], zero, one, a[i % len(a)], b[i % len(b)], False, 0.0, 0.0)
            for i in range(len(rows))
        ]
        return each[0] if len(each) == 1 else torch.cat(each)

    return node.job.node(node.shape, (node,), lambda span: (span,), compute)


def _instance_norm(func: Any, args: Any, kwargs: Any) -> Any:
    names = ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")
    usual = dict(running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, eps=1e-5)
    at = _bound(names, args, kwargs, **usual)
    x = at["input"]
    if not at["use_input_stats"]:
        mean, variance = at["running_mean"][None], at["running_var"][None]
    else:
        mean, variance = moments(x.node)
    return _stretched(x, mean, variance, at["weight"], at["bias"], at["eps"])


def _batch_norm(func: Any, args: Any, kwargs: Any) -> Any:
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    at = _bound(names, args, kwargs, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5)
    x = at["input"]
    if at["training"] and (x.node.shape[0] > 1 or at["running_mean"] is not None):
        return NotImplemented
    if at["training"]:
        mean, variance = moments(x.node)
    else:
        mean, variance = at["running_mean"][None], at["running_var"][None]
    return _stretched(x, mean, variance, at["weight"], at["bias"], at["eps"])


def _group_norm(func: Any, args: Any, kwargs: Any) -> Any:
    names = ("input", "num_groups", "weight", "bias", "eps")
    at = _bound(names, args, kwargs, weight=None, bias=None, eps=1e-5)
    x, groups = at["input"], at["num_groups"]
    mean, variance = (m.unflatten(1, (groups, -1)) for m in moments(x.node))
    whole_mean = mean.mean(2, keepdim=True)
    spread = (variance + (mean - whole_mean).square()).mean(2, keepdim=True)
    mean, variance = (m.expand_as(mean).flatten(1) for m in (whole_mean, spread))
    return _stretched(x, mean, variance, at["weight"], at["bias"], at["eps"])


def _over_image(at: dict[str, Any]) -> bool:
    dim = at["dim"]
    return dim is not None and sorted(d % 4 for d in (dim if isinstance(dim, (tuple, list)) else (dim,))) == [
        2,
        3,
    ]


def _moment(func: Any, args: Any, kwargs: Any) -> Any:
    """mean, sum, var, std, var_mean and std_mean over H and W."""
    name = func.__name__
    spreads = name not in ("mean", "sum")
    if spreads and (len(args) > 2 or "unbiased" in kwargs):
        return NotImplemented
    at = _bound(("input", "dim", "keepdim"), args, kwargs, dim=None, keepdim=False, correction=1, dtype=None)
    x = at["input"]
    if not isinstance(x, Strips) or not _over_image(at):
        return NotImplemented
    n = x.node.shape[2] * x.node.shape[3]
    mean, variance = moments(x.node)
    variance = variance * (n / (n - at["correction"])) if spreads else variance
    known = dict(mean=mean, sum=mean * n, var=variance, std=variance.sqrt())

    def shaped(value: Tensor) -> Tensor:
        return (value[:, :, None, None] if at["keepdim"] else value).to(at["dtype"] or torch.float32)

    return tuple(shaped(known[part]) for part in name.split("_")) if "_" in name else shaped(known[name])


def _adaptive(func: Any, args: Any, kwargs: Any) -> Any:
    size = kwargs.get("output_size", args[1] if len(args) > 1 else None)
    one = (size if isinstance(size, (tuple, list)) else (size,)) in ((1,), (1, 1), [1], [1, 1])
    return moments(args[0].node)[0].float()[:, :, None, None] if one else NotImplemented


HANDLERS: dict[str, Callable[[Any, Any, Any], Any]] = dict(
    conv2d=_conv2d,
    conv_transpose2d=_conv_transpose2d,
    avg_pool2d=_pool,
    max_pool2d=_pool,
    boolean_dispatch=lambda func, args, kwargs: NotImplemented,
    pad=_pad,
    pixel_shuffle=_pixel_shuffle,
    pixel_unshuffle=_pixel_unshuffle,
    interpolate=_interpolate,
    cat=_cat,
    concat=_cat,
    split=_split,
    chunk=_split,
    getitem=_getitem,
    instance_norm=_instance_norm,
    batch_norm=_batch_norm,
    group_norm=_group_norm,
    mean=_moment,
    sum=_moment,
    var=_moment,
    std=_moment,
    var_mean=_moment,
    std_mean=_moment,
    adaptive_avg_pool2d=_adaptive,
    dropout=_same,
    dropout2d=_same,
)
"""functions by their names"""


# A network over an image


@dataclass(frozen=True)
class Plan:
    """What a walk will take."""

    limit: float
    work: float
    memory: int
    """bytes of tensors at most"""


Network = Callable[[Tensor], Tensor]


def planned(
    network: Network, shape: Sequence[int], number: int = 4, device: torch.device | None = None
) -> Plan:
    """The limit for what is kept: of those ways that stay within BUDGET the quickest, unless one that does
    not is SLOWER times as quick; then the smallest of these.  number: bytes of one."""
    where = device or torch.device("cpu")

    def tried(limit: float) -> tuple[Plan, set[int]]:
        job = Job(limit, dry=True, bytes=number, device=where)
        out = network(job.source(shape, lambda a, b: torch.empty(0)))
        if isinstance(out, Strips):
            walk(out.node, lambda span, rows: None)
        return Plan(limit, job.done, job.peak), job.sizes

    free, sizes = tried(math.inf)
    plans = [free, *(tried(size - 1)[0] for size in sorted(sizes, reverse=True))]
    least = min(plan.work for plan in plans)
    quick = [plan for plan in plans if plan.work <= SLOWER * least]
    within = [plan for plan in quick if plan.memory <= BUDGET]
    return min(within, key=lambda p: p.work) if within else min(quick, key=lambda p: p.memory)


def run(
    network: Network,
    shape: Sequence[int],
    rows: Rows,
    use: Callable[[Span, Tensor], None],
    plan: Plan,
    notify: Callable[[float], None] = lambda share: None,
    number: int = 4,
    device: torch.device | None = None,
) -> None:
    """Put an image (B, C, H, W), rows a..b of which are rows(a, b), through a network, and its rows into
    use(), in order.  notify: is called with the share that is done."""
    total = max(plan.work, 1.0)
    where = device or torch.device("cpu")
    job = Job(plan.limit, bytes=number, device=where, notify=lambda done: notify(min(1.0, done / total)))
    out = network(job.source(shape, rows))
    if isinstance(out, Strips):
        walk(out.node, use)
    else:
        use((0, out.shape[2]), out)
