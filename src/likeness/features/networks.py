"""Feature networks for scores: what two sets of images are compared in, each with the hash that a card must
carry.

    points(data)         coordinates as they are, of points
    own(data)            a small classifier or VICReg encoder, trained on the data set at hand and kept: always there, and its
                         numbers can be compared only within that data set
    inception(path)      the Inception of 2015, whose numbers other people publish
    layer(name)          a layer of a network of others: VGG ... ResNet-50, DINOv2, CLIP, timm's
    load(name, data)     any of these by name, a run that encodes, or a TorchScript file

A number means nothing without its network: the same images differ by more in the weights than many a paper's
progress. `Network.sha256` is taken over the weights that are used, name by name; of a TorchScript file, which
holds code as well, over the file.  What a name stands for, named.py decides.
"""  # noqa: E501

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import engine, models, storage
from ..backbones import catalogue
from ..backbones.hub import HUB, coloured, digest, first_line
from ..backbones.layers import Graph
from ..core import BadData, Classifies, Model, Offline, Refusal, ask, closest, duration
from ..data import Data, picture
from ..runs.run import Config, Run
from ..storage import cache
from ..storage.cache import Progress
from ..training.loop import fit
from . import opening
from .images import scaled
from .named import SCORES, Named, parse

CHUNK = 2**21
"""values of the images that a network looks at in one go"""
Images = Callable[[np.ndarray], Tensor]
"""uint8 (n, C, H, W) to a row for each image, on whatever device"""


@dataclass(frozen=True, eq=False)
class Network:
    """Weights that turn images into features."""

    name: str
    sha256: str
    """hex; empty without weights"""
    dims: int
    resize: str
    """how images are brought to the size that it takes, in a line"""
    scope: str
    """where its numbers may be compared: "anywhere", or "only within" a data set"""
    embed: Images
    judge: Images | None = None
    """probabilities of its classes, where it has any"""
    spares: bool = False
    """it has not seen reserve(data)"""
    side: int = 0
    """pixels that it scales images to; 0 leaves them as they are"""

    @property
    def label(self) -> str:
        """Its name, and which weights."""
        return f"{self.name} {self.sha256[:12]}".strip()

    @property
    def card(self) -> dict[str, str]:
        """What a Score says of it, by field."""
        return dict(network=self.name, network_sha=self.sha256[:12], scope=self.scope)

    def features(self, x: np.ndarray) -> np.ndarray:
        """Of images uint8 (n, C, H, W), in memory or mapped: float32 (n, dims).  Raises Refusal where they
        have another shape than it was made for."""
        return self._all(self.embed, x, self.dims)

    def probabilities(self, x: np.ndarray) -> np.ndarray | None:
        """Of its classes, float32 (n, labels); None for a network without classes."""
        return None if self.judge is None else self._all(self.judge, x, 0)

    def _all(self, part: Images, x: np.ndarray, dims: int) -> np.ndarray:
        if not len(x):
            return np.zeros((0, dims), np.float32)
        size = max(1, min(512, CHUNK // max(x[0].size, 3 * self.side**2)))
        # copies: torch wants no memory that is mapped read-only
        chunks = (np.array(x[i : i + size]) for i in range(0, len(x), size))
        with torch.no_grad():
            return torch.cat([part(chunk).float().cpu() for chunk in chunks]).numpy()


def load(name: str, data: Data, progress: Progress | None = None) -> Network:
    """The network called `name`, to look at images like those of `data`.

    name: any of named.SCORES but none.  Raises Refusal where there is no such network or it does not fit.
    """
    asked = check(name, data)
    if not data.levels:
        return points(data, name)
    if asked.kind in ("auto", "own"):
        return own(data, best(data) if asked.kind == "auto" else asked.name, progress)
    if asked.kind == "inception":
        return inception()
    if asked.kind == "script":
        return inception(asked.path)
    return of_run(asked.path, data) if asked.kind == "run" else layer(name, asked)


def check(name: str, data: Data) -> Named:
    """What `name` stands for.  Raises Refusal where nothing is called that, or it is for points and the data
    are images or the other way round.  Opens nothing."""
    if name == "points" or not data.levels:
        points(data, name)
    return parse(name, SCORES)


def points(data: Data, name: str = "points") -> Network:
    """No network at all: points are compared by their coordinates.  Raises Refusal for images, or where
    another was named."""
    if data.levels:
        raise Refusal(
            f"points are compared by their coordinates, and {data.source} holds images; leave --network out."
        )
    if name not in ("auto", "points"):
        raise Refusal(
            f"{name} looks at images, and {data.source} holds points, which are compared by their "
            "coordinates; leave --network out."
        )
    return Network(
        "coordinates", "", data.spec.dims, "none", "anywhere", lambda x: picture(x).flatten(1), spares=True
    )


# Networks of our own


class Recipe(NamedTuple):
    """How a network of our own is trained: as its model is by default, in fp32, and from the data alone."""

    epochs: int
    """most times that a small set is walked through"""
    fewest: int
    """training images that it takes"""


VERSION = 2
"""of the models below, beside their options: another number trains anew"""
OWN = {"classifier": Recipe(40, 100), "vicreg": Recipe(60, 256)}
A_CLASS = 20
"""training images a class, on average, below which labels teach a classifier too little"""


SPARED, ENOUGH = 10_000, 500
"""most training images that the networks of our own are not shown, and those below which all are shown"""


def reserve(data: Data) -> np.ndarray:
    """Training rows that no network of our own has learnt from, a fifth of them: a function of the data
    alone.

    Only these can stand for real images: on what it has learnt a classifier is surer than on anything new,
    and a perfect model would seem worse than real.  Empty for few images, of which none can be spared.
    """
    rows = np.random.default_rng(0x5E7).permutation(data.train)
    return np.sort(rows[: min(SPARED, len(rows) // 5)]) if len(rows) >= ENOUGH else rows[:0]


def shown(data: Data) -> Data:
    """The same data without the reserve."""
    return replace(data, train=np.setdiff1d(data.train, reserve(data)))


def best(data: Data) -> str:
    """Which network suits the data: a classifier of our own where labels tell enough images apart, else
    vicreg; none for points."""
    if not data.levels:
        return "points"
    known = data.labelled.train
    seen = 0 if data.y is None or data.spec.labels < 2 else len(np.unique(data.y[known]))
    return (
        "classifier"
        if seen >= 2 and len(known) >= max(A_CLASS * seen, OWN["classifier"].fewest)
        else "vicreg"
    )


def own(data: Data, kind: str = "classifier", progress: Progress | None = None) -> Network:
    """A network trained once on data.train, and kept in the cache; `outlook` says beforehand what that will
    take.

    progress(done, total) is called with images seen while it trains.  The settings depend on the data alone.
    Raises Refusal where the data do not suffice, NotAllowed or DiskTrouble where the cache cannot be written.
    """
    config, learnt = plan(data, kind), _fit(shown(data), kind)
    folder = _folder(config)
    with cache.explained(folder.parent, "feature networks"):
        folder.parent.mkdir(exist_ok=True)
        with _alone(folder.with_suffix(".lock")):
            run = _kept(folder, config) or _trained(folder, config, learnt, progress)
    return replace(_network(run, kind, data), spares=len(shown(data).train) < len(data.train))


def outlook(data: Data, kind: str = "classifier") -> str:
    """What own() is about to do, in a sentence; nothing where it is done already."""
    config = plan(data, kind)
    if _folder(config).is_dir():
        return ""
    seconds = _measured(config, _fit(data, kind)) * config.training.images / config.training.batch
    return (
        f"training the {kind} that {data.source} is compared with, once: {config.training.images:,} images, "
        f"about {duration(max(1.0, seconds))}"
    )


def _measured(config: Config, data: Data, steps: int = 4) -> float:
    """Seconds of a training step on this machine, from a few that are thrown away."""
    times = []
    with torch.random.fork_rng():
        model = engine.place(models.load(config.model)(spec=data.spec, **config.options)).train()
        batch = engine.put(data.batch(0, 0, config.training.batch))
        for _ in range(steps):
            began = time.perf_counter()
            model.loss(batch).total.backward()
            engine.synchronise()
            times.append(time.perf_counter() - began)
    return 1.2 * min(times[1:])  # the optimiser, the average and the reading of images come on top


def plan(data: Data, kind: str) -> Config:
    """The whole recipe, written out for this data."""
    if kind not in OWN:
        raise Refusal(f"{kind!r} is no network that is trained here; {closest(kind, tuple(OWN))}")
    recipe, data = OWN[kind], _fit(data, kind)
    if len(data.train) < recipe.fewest:
        raise Refusal(
            f"{len(data.train)} training images are too few to learn features from, {kind} takes "
            f"{recipe.fewest}; {_instead(recipe.fewest)}"
        )
    model = models.load(kind)
    training = replace(
        model.defaults, precision="fp32", images=min(model.defaults.images, recipe.epochs * len(data.train))
    )
    with torch.random.fork_rng():
        options = model(spec=data.spec).options()
    return Config(kind, data.spec, training, options, data.identity, engine.facts())


def _fit(data: Data, kind: str) -> Data:
    """What the network learns from: a classifier sees no unlabelled image."""
    return data.labelled if kind == "classifier" else data


def _instead(fewest: int) -> str:
    """What works here where the data are too few."""
    with suppress(Offline):
        _published()
        return f"give {fewest}, or type --network inception, whose weights are here."
    return (
        f"give {fewest}, or type --network RUN with a run that encodes images of this size and was trained "
        "on more of them."
    )


def _folder(config: Config) -> Path:
    """Where the network of this recipe is kept."""
    parts = (
        VERSION,
        config.data["fingerprint"],
        config.spec,
        config.training,
        sorted(config.options.items()),
    )
    return cache.root() / "networks" / cache.key_of(config.model, *parts)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process trains the same network; the lock goes with the process."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _kept(folder: Path, config: Config) -> Run | None:
    """The run that was trained before.  A damaged one is thrown away."""
    if not folder.is_dir():
        return None
    try:
        run = Run.open(folder)
        if run.seen >= config.training.images:
            return run
    except (BadData, Refusal):
        pass
    shutil.rmtree(folder)
    return None


def _trained(folder: Path, config: Config, data: Data, progress: Progress | None) -> Run:
    """Train beside it and rename: a folder with this name is always a finished run.  Whoever calls holds the
    lock."""
    for left in folder.parent.glob(f"{folder.name}.tmp-*"):
        shutil.rmtree(left, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(
            prefix=f"{folder.name}.tmp-", dir=folder.parent, ignore_cleanup_errors=True
        ) as work,
        torch.random.fork_rng(),
    ):
        run = Run.create(Path(work) / "run", config)
        try:
            for step in fit(run, data, save_every=float("inf")):
                if progress:
                    progress(min(step.seen, config.training.images), config.training.images)
        finally:
            run.close()
        run.folder.rename(folder)
        storage.fsync(folder.parent)
    return Run.open(folder)


def _network(run: Run, name: str, data: Data) -> Network:
    """A run that encodes, as a network."""
    model = run.model
    encode = ask(model, "encode")

    def placed(x: np.ndarray) -> Tensor:
        if x.shape[1:] != model.spec.shape:
            ours, others = ("x".join(map(str, s)) for s in (model.spec.shape, x.shape[1:]))
            raise Refusal(
                f"{name} was trained on images of {ours} and cannot look at {others}; read the images with "
                f"--size {model.spec.size}."
            )
        return picture(x).to(engine.device(), memory_format=torch.channels_last)

    dims = encode(placed(np.zeros((1, *model.spec.shape), np.uint8))).flatten(1).shape[1]
    judge = _softmax(model, placed) if isinstance(model, Classifies) else None
    scope = f"only within {data.source}"
    return Network(
        name, digest(model.state_dict()), dims, "none", scope, lambda x: encode(placed(x)).flatten(1), judge
    )


def _softmax(model: Model, placed: Images) -> Images:
    return lambda x: ask(model, "classify")(placed(x)).float().softmax(1)


def of_run(folder: Path, data: Data) -> Network:
    """The network of a run of ours that encodes; its images must have the shape of data's."""
    run = Run.open(folder)
    ask(run.model, "encode", "Name a run of a model that encodes, such as vae, simclr or classifier.")
    if run.config.spec.shape != data.spec.shape:
        ours, others = ("x".join(map(str, s.shape)) for s in (run.config.spec, data.spec))
        raise Refusal(
            f"{folder} looks at images of {ours}, and those of {data.source} are {others}; name a run that "
            "was trained on such images."
        )
    return _network(run, f"{run.config.model} in {folder.name}", data)


# Networks of others

INCEPTION = "inception-2015-12-05.pt"
INCEPTION_URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{INCEPTION}"
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""Of that file, as k-diffusion (evaluation.py) and others that use it state; not downloaded here to be
checked.  It is not 6726825d...: that is the .pth with the same weights that pytorch-fid publishes, which
can only be read by unpickling."""
OWN_WAY = (
    "the network's own: bilinear to 299x299 without antialiasing, as TensorFlow 1 did; grey in three channels"
)


def inception(path: Path | str | None = None) -> Network:
    """The Inception of 2015 as TorchScript, or any TorchScript network that is called as it is: forward(x
    uint8, return_features=True).

    Without a path it is looked for as weights/inception-2015-12-05.pt under LIKENESS_DATA and in the cache,
    and must have the published hash.  A path that is given is taken at its word: cards then carry the hash of
    that file.  Raises Offline where there is no such file, BadData for another one, Refusal for one that
    cannot be called like this.
    """
    file = _published() if path is None else Path(os.path.expanduser(path))
    try:
        blob = file.read_bytes()
    except OSError as why:
        raise BadData(f"{file} cannot be read ({why.strerror}); name a TorchScript file.") from None
    result = hashlib.sha256(blob).hexdigest()
    if path is None and result != INCEPTION_SHA256:
        raise BadData(
            f"{file} is not the published Inception: its sha256 is {result}, not {INCEPTION_SHA256}; put "
            "that file there, or name this one by its path."
        )
    return _torchscript(file, blob, result)


def _published() -> Path:
    """Where the file is kept."""
    home = os.environ.get("LIKENESS_DATA")
    places = [*([Path(os.path.expanduser(home))] if home else []), cache.where()]
    for place in places:
        if (file := place / "weights" / INCEPTION).is_file():
            return file
    raise Offline(
        f"inception is not on this machine; fetch {INCEPTION_URL} and put it at "
        f"{places[0] / 'weights' / INCEPTION}, or use classifier or vicreg."
    )


def _torchscript(file: Path, blob: bytes, sha256: str) -> Network:
    """A file of TorchScript holds a program for torch's own interpreter, which knows tensors and nothing of
    Python or files."""
    try:
        net = torch.jit.load(io.BytesIO(blob), map_location=engine.device()).eval()
        takes = {a.name for a in net.forward.schema.arguments}
    except (RuntimeError, AttributeError) as why:
        raise BadData(
            f"{file} is no TorchScript network ({first_line(why)}); name one that torch.jit.save has written."
        ) from None
    if "return_features" not in takes:
        raise Refusal(
            f"{file} cannot be asked for features: its forward takes no return_features=True, as the "
            "published Inception's does."
        )

    def placed(x: np.ndarray) -> Tensor:
        return torch.from_numpy(coloured(x)).to(engine.device())

    def embed(x: np.ndarray) -> Tensor:
        return net(placed(x), return_features=True).flatten(1)

    def judge(x: np.ndarray) -> Tensor:
        # as the inception score was first computed (Salimans et al. 2016, their code)
        return net(placed(x), no_output_bias=True)

    try:
        with torch.no_grad():
            dims = embed(np.zeros((1, 3, 299, 299), np.uint8)).shape[1]
    except RuntimeError as why:
        raise Refusal(
            f"{file} does not answer forward(x, return_features=True) for images uint8 (n, 3, H, W) "
            f"({first_line(why)})."
        ) from None
    published = sha256 == INCEPTION_SHA256
    name, resize = (
        ("inception", OWN_WAY) if published else (file.stem, "the network's own; grey in three channels")
    )
    return Network(
        name, sha256, dims, resize, "anywhere", embed, judge if "no_output_bias" in takes else None, side=299
    )


def layer(name: str, asked: Named) -> Network:
    """The code of a network of others, or the deepest layer before its classes, with the mean over its places
    where it has any; Kynkaanniemi et al. 2019 compare images by that of VGG-16.

    Images are brought to its size by antialiased bicubic interpolation, also where Keras takes the nearest
    pixel: what that drops and repeats would be measured, too (Parmar et al., "On Aliased Resizing", 2022).
    """
    graph = asked.kind == "graph"
    code = catalogue.CODES[asked.name] if graph else "code"
    net = opening.load(name, layers=[code])
    scaling, side = "bicubic" if graph else net.scaling, net.side
    smooth = "" if scaling == "nearest" else ", antialiased"

    def embed(x: np.ndarray) -> Tensor:
        pixels = np.stack([coloured(scaled(one, side, scaling)[None])[0] for one in x])
        y = net.outputs(torch.from_numpy(pixels).to(engine.device()), [code])[code]
        return y.mean((2, 3)) if y.ndim == 4 else y

    with torch.no_grad():
        dims = embed(np.zeros((1, 3, side, side), np.uint8)).shape[1]
    return Network(
        _shown(name, asked, code),
        digest(net.used([code])) if isinstance(net, Graph) else net.sha256,
        dims,
        f"Pillow {scaling}{smooth}, to {side}x{side}; grey in three channels",
        "anywhere",
        embed,
        side=side,
    )


def _shown(name: str, asked: Named, code: str) -> str:
    """What a card calls it."""
    if asked.kind == "graph":
        return f"{name} {code}"
    if asked.kind == "hub" and asked.where not in ("", HUB[asked.name].where):
        return f"{asked.name} in {Path(asked.where).name}"
    return asked.name if asked.kind == "hub" else name
