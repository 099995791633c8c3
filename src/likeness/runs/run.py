"""A run is a folder: what was asked for, and how far it has got.

    config.json   model and options, data, training, machine; written once, read by people
    state/        weights, their EMA, one optimiser a player, images seen (storage/)
    log.jsonl     learning curves, throughput, memory
    samples/      images of the same noise while training
    scores.json   the last evaluation
    report.html   all of it on one page
    method.py     only for a model whose file lies outside the package
    inside/       only for a model that learns the codes of an autoencoder: the run of that, frozen as it was (runs/latent_model.py)

Neither the random state nor the place in the data is saved: both are functions of the seed and of
the number of images seen.
"""  # noqa: E501

from __future__ import annotations

import json
import os
import shutil
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import engine, models, storage
from ..core import BadData, Busy, Compresses, Model, Refusal, Spec, Training
from ..data.captions import Vocabulary
from ..data.source import parse
from ..data.split import SHARE
from ..storage import lock
from . import latent_model, origin
from .folder import CONFIG as CONFIG
from .folder import is_run as is_run

LOG, INSIDE = "log.jsonl", "inside"
AVERAGE, RAW = "EMA", "raw weights"
"""which weights a model answers by"""


@dataclass(frozen=True)
class Config:
    model: str
    spec: Spec
    training: Training
    options: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    """source, fingerprint, and the settings it was read with"""
    facts: dict[str, Any] = field(default_factory=dict)
    """what decides bits beside the above: versions, threads, instruction set, processes"""
    inside: dict[str, Any] = field(default_factory=dict)
    """of the first stage, if the model learns the codes of one: source, model, images seen, and sha256 of its
    weights"""
    classes: list[str] = field(default_factory=list)
    """names of the classes of the data, which may be called otherwise by the time that somebody asks"""
    vocabulary: list[str] = field(default_factory=list)
    """words of the training captions by their number (data/captions.py), where the model takes texts"""
    origin: dict[str, Any] = field(default_factory=dict)
    """where the data lie as seen from the run's folder, and how many they were (runs/origin.py)"""
    plan: dict[str, Any] = field(default_factory=dict)
    """of a run in so many minutes: these, and the speed that training.images was planned by"""

    @property
    def method(self) -> str:
        """What learns, and what it learns if that is not images."""
        return f"{self.model} in the codes of {self.inside['model']}" if self.inside else self.model

    @property
    def words(self) -> Vocabulary:
        """What a text is put into tokens by."""
        return Vocabulary(tuple(self.vocabulary), self.spec.tokens)

    @property
    def reading(self) -> dict[str, Any]:
        """How the images were read: load(source, **reading) gives the same again."""
        return {k: v for k, v in self.data.items() if k not in ("source", "fingerprint")}

    def build(self, folder: Path, first: nn.Module | None = None) -> Model:
        """The model at its first weights, which are a function of the seed.  The first stage is that in the
        folder, unless it is given."""
        name = str(folder / self.model) if self.model.endswith(".py") else self.model
        kind = models.load(name)
        known = {f.name for f in fields(kind)}
        if unknown := [o for o in self.options if o not in known]:
            raise BadData(
                f"{folder / CONFIG} sets {', '.join(unknown)}, which {self.model} does not have; it was "
                "written by another version of likeness."
            )
        if self.inside and first is None:
            first = _frozen(folder / INSIDE)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(engine.derive("weights", self.training.seed))
            result = latent_model.make(kind, self.spec, self.options, first)
        result.knows(self.vocabulary)
        return result

    def differences(self, asked: dict[str, dict[str, Any]]) -> list[str]:
        """What is asked for that this run was not made with, such as "--latent 8, not --latent 9".  A longer
        budget is none, where it decides no bits."""
        own = asdict(self)
        free = {"images"} if self.training.schedule == "constant" else set()
        pairs = [
            (own[part], name, value)
            for part, wishes in asked.items()
            for name, value in wishes.items()
            if name not in free
        ]
        return [
            f"{_typed(name, there.get(name))}, not {_typed(name, value)}"
            for there, name, value in pairs
            if there.get(name) != value
        ]


def _typed(name: str, value: Any) -> str:
    """An option as the flag that sets it; the data have no flag."""
    if name == "source":
        return f"data {value}"
    flag = name.replace("_", "-")
    if name in ("task", "to") and not value:
        return f"no --{flag}"
    return f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag} {value}"


def read_config(folder: Path) -> Config:
    try:
        config = json.loads((folder / CONFIG).read_text())
        if "agent" in config:
            raise Refusal(
                f"{folder} is the run of an agent, which no image is asked of; likeness play {folder} shows "
                f"it, and likeness evaluate {folder} measures it."
            )
        main = (
            config["model"],
            Spec(**config["spec"]),
            Training(**config["training"]),
            _of_its_time(config["options"]),
            _spelled_out(config["data"]),
            config["facts"],
        )
        return Config(
            *main,
            config.get("inside", {}),
            config.get("classes", []),
            config.get("vocabulary", []),
            config.get("origin", {}),
            config.get("plan", {}),
        )
    except FileNotFoundError:
        raise Refusal(
            f"{folder} is not a run: it has no {CONFIG}.  A run is made by: likeness train MODEL DATA "
            f"{folder}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadData(
            f"{folder / CONFIG} cannot be read ({error}); restore it from a copy, or train into another "
            "folder."
        ) from None


def _of_its_time(options: dict[str, Any]) -> dict[str, Any]:
    """A denoiser that does not say what reads its texts is from when places of words were absolute, and one
    that does not say what moves its weights from when that was always Adam; one that does not speak of
    autoguidance is drawn without, also when it is trained on past half of its images."""
    before: dict[str, Any] = {}
    if {"text", "label_dropout"} <= options.keys():
        before["reader"] = "absolute"
    if {"net", "label_dropout"} <= options.keys():
        before |= dict(optimizer="adam", autoguidance=1.0)
    return before | options


def _spelled_out(data: dict[str, Any]) -> dict[str, Any]:
    """A run that does not say what share of its images was held out is from when that was always a tenth, and
    one that does not name the validation part from when that was passed over.  One that does not name the
    layout has the classes that it wrote down, or none: origin.load() drops others.  One that does not name
    the task is from when folders of pairs were one set of images, and named sets what they are."""
    if "size" not in data:
        return data
    old: dict[str, Any] = {"held_out": SHARE, "validation": "none", "layout": "classes"}
    sides = {"task": "", "to": "", "tiles": False, "swap": False}
    mixed = "task" not in data and data.get("layout") == "auto" and parse(data.get("source", "")).path
    return old | sides | data | ({"layout": "together"} if mixed else {})


class Stage(NamedTuple):
    """A trained run, and its model as a first stage: itself, or its codes measured."""

    run: Run
    model: nn.Module

    @property
    def code(self) -> Spec:
        assert isinstance(self.model, Compresses)
        return self.model.code

    def freeze(self, folder: Path) -> None:
        """Write what answers into another folder: a run that can be asked, but not trained on."""
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed here
        storage.make(folder)
        if self.run.config.model.endswith(".py"):
            storage.write(folder / "method.py", (self.run.folder / "method.py").read_bytes())
        codes = {} if self.model is self.run.model else dict(self.model.named_buffers(recurse=False))
        tensors = {
            f"{part}/{name}": t
            for part, named in (("model", self.run.model.state_dict()), ("codes", codes))
            for name, t in named.items()
        }
        storage.save(
            folder / "state",
            self.run.seen,
            tensors,
            dict(seen=self.run.seen, seconds=self.run.seconds, facts=self.run.config.facts),
        )
        config = origin.rebased(self.run.config, self.run.folder, folder)
        storage.write(folder / CONFIG, json.dumps(asdict(config), indent=2).encode())


def _frozen(folder: Path) -> nn.Module:
    """The first stage as freeze() has written it."""
    if (result := storage.newest(folder / "state")) is None:
        raise BadData(
            f"{folder} is empty: the autoencoder whose codes this run learns is gone; restore that folder "
            "from a copy."
        )
    model, state = read_config(folder).build(folder), result[0]
    _load_module(model, state, "model")
    codes = {name.removeprefix("codes/"): t for name, t in state.items() if name.startswith("codes/")}
    return latent_model.Numbers(model, **codes) if codes else model


class Run:
    """Open a run to ask it questions: `model` answers.  `Run.create` and `resume` make it trainable."""

    def __init__(self, folder: Path, config: Config, first: nn.Module | None = None):
        self.folder, self.config = folder, config
        self.seen = 0
        self.seconds = 0.0
        """time spent in training steps so far"""
        self.window: dict[str, list[Tensor]] = {}
        """losses since the last line of the log, not read from the device yet"""
        self.notes: list[str] = []
        """what the user should hear about how this run was opened"""
        self.student = engine.place(config.build(folder, first))
        self.model = self._copy()
        """the EMA of the student: the one that answers questions"""
        self.weights = AVERAGE
        """those that the model has; or RAW"""
        self._kept = True
        """the student's weights are those of the state"""
        self._lock: int | None = None
        self._saved = -1

    # Making and opening

    @classmethod
    def create(cls, folder: Path, config: Config, first: Stage | None = None) -> Run:
        """A new run folder, locked, at its first weights; with a copy of the first stage, if it learns the
        codes of one."""
        if is_run(folder):
            raise Refusal(
                f"{folder} holds a run already; train with the same options to resume it, or name another "
                "folder."
            )
        source = Path(config.model)
        storage.make(folder)
        try:
            if config.model.endswith(".py") and source.resolve() != (folder / "method.py").resolve():
                shutil.copyfile(source, folder / "method.py")
        except FileNotFoundError:
            models.load(config.model)
            raise
        except OSError as error:
            raise storage.trouble(error, folder) from error
        if config.model.endswith(".py"):
            config = replace(config, model="method.py")
        run = cls(folder, config, first.model if first else None)
        run.lock()
        if is_run(folder):
            run.close()
            raise Busy(
                f"{folder} has just been made by another process; train with the same options to go on with "
                "it."
            )
        if first:
            first.freeze(folder / INSIDE)
        storage.write(folder / CONFIG, json.dumps(asdict(config), indent=2).encode())
        run._make_trainable()
        return run

    @classmethod
    def in_memory(cls, config: Config) -> Run:
        """To train without a folder: nothing of it is written, and it cannot be saved."""
        run = cls(Path(os.devnull) / "unwritten", config)
        run._make_trainable()
        return run

    @classmethod
    def open(cls, folder: Path, raw: bool = False) -> Run:
        """To ask questions: the EMA of the newest good state; or, if `raw`, its weights without any average.

        Raises Refusal where raw weights were not kept, as in the first stage of another run.
        """
        run = cls(folder, read_config(folder))
        if (state := run._newest()) is not None:
            _load_module(run.model, state, "model", run.student)
            run._recall_early(state)
            run._kept = any(name.startswith("student/") for name in state) or not list(
                run.student.state_dict()
            )
            if run._kept:
                _load_module(run.student, state, "student")
        if raw:
            run.model, run.weights = run.raw(), RAW
        return run

    def raw(self) -> Model:
        """A model that answers by the weights as training has left them, without the EMA.

        Raises Refusal where they were not kept.
        """
        if not self._kept:
            raise Refusal(f"{self.folder} has kept the EMA of its weights only; leave --raw out.")
        return self._copy()

    def _copy(self) -> Model:
        """Of the student, to answer questions."""
        copy = deepcopy(self.student).eval().requires_grad_(False)
        copy.answering()
        return copy

    @classmethod
    def resume(cls, folder: Path, config: Config | None = None, *, lock: bool = True) -> Run:
        """To train on from the newest good state; `lock` keeps others out.  config: takes the place of the
        run's own, as when a file has moved."""
        written = read_config(folder)
        run = cls(folder, config or written)
        if lock:
            run.lock()
        try:
            run._go_on(lock, moved=run.config != written)
        except BaseException:
            run.close()
            raise
        return run

    def _go_on(self, lock: bool, moved: bool) -> None:
        if differs := engine.match(self.config.facts):
            self.notes.append(
                f"going on, but not bit by bit as an uninterrupted run would: {'; '.join(differs)}"
            )
        self._make_trainable()
        state = self._newest()
        if state is not None:
            self._restore(state)
        if moved:
            self.student.prepare()  # refuses a file that is not what it was
            storage.write(self.folder / CONFIG, json.dumps(asdict(self.config), indent=2).encode())
        if lock:
            storage.sweep(self.folder)
            self._trim_log()

    def replan(self, config: Config) -> None:
        """Go on by another plan; what has decided the bits so far must be the same."""
        self.config = config
        storage.write(self.folder / CONFIG, json.dumps(asdict(config), indent=2).encode())

    def _make_trainable(self) -> None:
        self.average = engine.Average(self.model, self.student)
        self.players = engine.compiled(self.student.players(), self.config.training)
        self.optimizers = {p.name: engine.optimizer(p, self.config.training.rate) for p in self.players}

    def lock(self) -> None:
        """Keep a second trainer out; the lock goes with the process, however it ends."""
        self._lock = lock.take(self.folder)

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def keep_early(self) -> None:
        """Remember what answers now, at half of the training, where the model draws with it."""
        if getattr(self.model, "keeps_early", False):
            early = self._copy()
            early.load_state_dict(self.model.state_dict())
            self.model.__dict__["early"] = early

    def _recall_early(self, state: dict[str, Tensor]) -> None:
        if any(name.startswith("early/") for name in state):
            early = self._copy()
            _load_module(early, state, "early", self.student)
            self.model.__dict__["early"] = early

    # State

    def tensors(self) -> dict[str, Tensor]:
        """All that must be remembered beside two numbers, by name."""
        out = {
            f"{part}/{name}": t
            for part in ("student", "model")
            for name, t in getattr(self, part).state_dict().items()
        }
        if (early := getattr(self.model, "early", None)) is not None:
            out |= {f"early/{name}": t for name, t in early.state_dict().items()}
        for player in self.players:
            state = self.optimizers[player.name].state
            for name, p in player.module.named_parameters():
                out |= {
                    f"optimizer/{player.name}/{name}/{key}": torch.as_tensor(v)
                    for key, v in state.get(p, {}).items()
                }
        return out | {f"window/{name}": torch.stack(values) for name, values in self.window.items() if values}

    def save(self) -> None:
        """Commit the state to the disk; raises DiskTrouble with the earlier state intact."""
        if self._saved != self.seen:
            facts = dict(seen=self.seen, seconds=self.seconds, facts=engine.facts())
            storage.flush(self.folder / LOG)  # a state never knows more than the log
            storage.save(self.folder / "state", self.seen, self.tensors(), facts)
            self._saved = self.seen

    def _newest(self) -> dict[str, Tensor] | None:
        result = storage.newest(self.folder / "state")
        if result is None:
            return None
        tensors, facts, damaged = result
        if damaged:
            self.notes.append(
                f"state {', '.join(damaged)} is damaged; the one before it, of image {facts['seen']:,}, is "
                "used"
            )
        self.seen, self.seconds = facts["seen"], facts["seconds"]
        self._saved = -1 if damaged else self.seen
        return tensors

    def _restore(self, state: dict[str, Tensor]) -> None:
        for part in ("student", "model"):
            _load_module(getattr(self, part), state, part, self.student)
        self._recall_early(state)
        for player in self.players:
            for name, p in player.module.named_parameters():
                prefix = f"optimizer/{player.name}/{name}/"
                kept = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
                if kept:
                    optimizer = self.optimizers[player.name]
                    optimizer.state[p] = {
                        k: _like(v, p, bool(optimizer.defaults.get("fused"))) for k, v in kept.items()
                    }
        self.window = {
            k.removeprefix("window/"): list(v.to(engine.device()))
            for k, v in state.items()
            if k.startswith("window/")
        }

    # Log

    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl; a last line that a crash has torn is left out."""
        try:
            text = (self.folder / LOG).read_text(errors="replace")
        except FileNotFoundError:
            return []
        return [result for line in text.splitlines() if (result := _parsed(line))]

    def note(self, line: dict[str, Any]) -> None:
        try:
            with (self.folder / LOG).open("a") as f:
                f.write(json.dumps(line) + "\n")
        except OSError as error:
            raise storage.trouble(error, self.folder / LOG) from error

    def _trim_log(self) -> None:
        """What was logged after the state that one resumes from will be logged again."""
        if (self.folder / LOG).exists():
            kept = [line for line in self.log() if line["seen"] <= self.seen]
            storage.write(self.folder / LOG, "".join(json.dumps(line) + "\n" for line in kept).encode())


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        result = json.loads(line)
        return result if isinstance(result, dict) and {"seen", "losses"} <= result.keys() else None
    except ValueError:
        return None


def _like(value: Tensor, p: nn.Parameter, fused: bool) -> Tensor:
    """Where and how the optimiser itself would keep it: in the layout of its parameter, which
    decides bits."""
    if value.ndim and value.shape == p.shape:
        return torch.empty_like(p, requires_grad=False).copy_(value)
    return value.to(p.device if fused else "cpu")


def _load_module(
    module: nn.Module, state: dict[str, Tensor], part: str, student: nn.Module | None = None
) -> None:
    """student: of which the module is a copy; what it has besides may be in the state, as of runs that saved
    it twice."""
    own = {k.removeprefix(f"{part}/"): v for k, v in state.items() if k.startswith(f"{part}/")}
    if student is not None:
        for name in student.state_dict().keys() - module.state_dict().keys():
            own.pop(name, None)
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise BadData(
            f"the saved weights do not fit the model ({str(error).splitlines()[-1].strip()}); they were "
            "written by another version of it."
        ) from None
