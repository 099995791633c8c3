"""Fake or real: can the images of a run be told from real ones, and does whoever asks hear when they cannot?

    for at in learn(makers, data, folder): print(at.doing)       train a detector, put it to the test
    for finding in judge(load(folder), [Path("photo.png")]): print(finding.text)

A detector is the small classifier, trained by the ordinary loop on real training images and on as many that
our runs made. That is quickly done, and its score means little unless it is asked in these ways:

    one pipeline      both sides have passed through the same 8 bits, onto the same levels: no rounding gives one of them away
    fresh images      it is tested on held-out images, and on samples that it has not met
    floor             the same training on real against real must end at an AUROC of one half
    a stranger        each run is left out of training once, and then asked about (Wang et al., "CNN-generated images are
                      surprisingly easy to spot... for now", 2020)
    rough handling    JPEG and resizing, of both sides alike, with and without having met them in training
    a third answer    "cannot tell", where the answers that are given would else be wrong too often (Chow 1970)

P(generated) counts as many generated images as real ones.  Whoever looks at images of which one in a thousand
is generated must lower it by Bayes' rule.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import engine, models, storage
from ..backbones.hub import digest
from ..core import BadData, Model, Refusal, ask
from ..data import Data, Reading, picture
from ..evaluation import scores
from ..metrics import decisions
from ..metrics.card import Score, Z, measure, sentences, small, wilson
from ..metrics.twosample import auroc
from ..runs.run import Config, Run, is_run, read_config
from ..training import loop
from .real_and_generated import TREATMENTS, Maker, Parts, Progress, Sides, gather, halves, room

MODEL, FACTS, STUDIES = "classifier", "detector.json", "studies"
CLASSES = ("real", "generated")


# Training


class Study(NamedTuple):
    """A detector to train, and what it may meet."""

    folder: Path
    doing: str
    train: Sides
    calibration: Sides


def learn(
    makers: Sequence[Maker],
    data: Data,
    folder: Path,
    n: int = 2000,
    images: int = 40_000,
    error: float = 0.05,
    seed: int = 0,
) -> Generator[Progress]:
    """Train a detector into `folder`, and into its studies/ those that show what its scores mean; yield
    progress, then score cards.

    n: images a side to learn from.  images: how many each training sees in all.  error: the share of wrong
    answers among those given that is aimed at; where it cannot be had the answer is "cannot tell".  The same
    call goes on where an earlier one was killed. Raises Refusal where makers, data and folder do not go
    together.
    """
    if not 0 < error < 0.5:
        raise Refusal(f"an error of {error:g} cannot be aimed at; choose one above 0 and below one half.")
    against = f" against {', '.join(m.name for m in makers)}"
    source = f"{data.source}{against}"
    # the real images may have moved: whether they are others, the fingerprint says
    if is_run(folder) and not str(read_config(folder).data.get("source")).endswith(against):
        raise _another(folder)
    parts, nothing = (yield from gather(makers, data, n, seed)), halves(data, n, seed)
    about = dict(_asked(makers, data), n=len(parts.train.real), error=error, seed=seed)
    studies, result = _studies(folder, makers, parts, nothing, data.levels, seed), dict[str, Detector]()
    for i, (name, study) in enumerate(studies.items()):
        for step in _train(study, source, data.levels, images, seed):
            yield Progress(study.doing, (i + min(1.0, step.seen / images)) / len(studies))
        result[name] = calibrate(study, about)
    cards = []
    for card in Exam(result, makers, parts.test, nothing.test, data.levels, seed).cards():
        cards.append(card)
        yield Progress("the examination", 1.0, card)
    scores.save_scores(folder, cards)


def _asked(makers: Sequence[Maker], data: Data) -> dict[str, Any]:
    """Of what the detector was made: what `judge` must know to read a file, and its reader to believe a
    verdict."""
    reading = {k: v for k, v in data.settings.items() if k in {f.name for f in fields(Reading)}}
    turned = [
        {f.name: getattr(m.model, f.name) for f in fields(m.model) if f.metadata.get("live")} for m in makers
    ]
    described = [
        dict(name=m.name, model=m.run.config.model, seen=m.run.seen, **live)
        for m, live in zip(makers, turned)
    ]
    return dict(
        data=dict(source=data.source, fingerprint=data.fingerprint, reading=reading), makers=described
    )


def _studies(
    folder: Path, makers: Sequence[Maker], parts: Parts, nothing: Parts, levels: int, seed: int
) -> dict[str, Study]:
    """What is trained, by name; the detector itself has none."""

    def study(name: str, doing: str, train: Sides, calibration: Sides, rough: bool = True) -> Study:
        train, calibration = (
            (train.joined(train.roughened(levels, seed)), calibration.mixed(levels, seed))
            if rough
            else (train, calibration)
        )
        return Study(folder / STUDIES / name if name else folder, doing, train, calibration)

    out = {
        "": study("", "the detector", parts.train, parts.calibration),
        "floor": study("floor", "real against real", nothing.train, nothing.calibration),
        "clean": study("clean", "without rough handling", parts.train, parts.calibration, rough=False),
    }
    for j, maker in enumerate(makers if len(makers) > 1 else ()):
        out[f"without-{j}"] = study(
            f"without-{j}", f"without {maker.name}", parts.train.without(j), parts.calibration.without(j)
        )
    return out


def _another(folder: Path) -> Refusal:
    return Refusal(
        f"{folder} holds another run; name another folder with -o, or repeat the very command that made it "
        "to go on."
    )


def _train(study: Study, source: str, levels: int, images: int, seed: int) -> Iterator[loop.Step]:
    """By the ordinary loop; a run that is there already goes on."""
    x, y = np.concatenate(study.train[:2]), np.repeat([0, 1], len(study.train.real))
    digest = hashlib.blake2b(x.tobytes(), digest_size=16).hexdigest()
    data, kind = (
        Data(source, digest, x, np.arange(len(x)), np.arange(0), y, CLASSES, levels=levels),
        models.load(MODEL),
    )
    training = engine.settle(replace(kind.defaults, images=images, seed=seed, warmup=images // 20), data.spec)
    config = Config(
        MODEL,
        data.spec,
        training,
        kind(spec=data.spec).options(),
        dict(source=source, fingerprint=digest),
        engine.facts(),
    )
    if there := is_run(study.folder):
        asked = dict(data=dict(fingerprint=digest), training=asdict(training), options=config.options)
        if read_config(study.folder).differences(asked):
            raise _another(study.folder)
    run = Run.resume(study.folder) if there else Run.create(study.folder, config)
    try:
        yield from loop.fit(run, data)
    finally:
        run.close()


# A detector


class Heard(NamedTuple):
    """What a detector says of images, (n,) each."""

    log_p: np.ndarray
    """(n, 2): as the network says it, before calibration"""
    p: np.ndarray
    """(n, 2): calibrated probabilities of real, generated"""
    says: np.ndarray
    """0 real, 1 generated, -1 cannot tell"""
    label: np.ndarray
    """0 or 1: what it is"""

    @property
    def odds(self) -> np.ndarray:
        """Finer than p, which is rounded to 1 where the network is very sure."""
        return self.log_p[:, 1] - self.log_p[:, 0]

    def of(self, chosen: np.ndarray) -> Heard:
        return Heard(*(part[chosen] for part in self))


@dataclass(frozen=True)
class Detector:
    folder: Path
    model: Model
    temperature: float = 1.0
    threshold: float = math.inf
    """the least probability at which it says "real" or "generated"; inf where it never may"""
    error: float = math.nan
    """the share of wrong answers that this threshold was to allow"""
    reading: dict[str, Any] = field(default_factory=dict)
    """how the images of its training were read: as data.Reading"""

    @cached_property
    def network(self) -> dict[str, str]:
        """What a Score says of it, by field."""
        return dict(network=MODEL, network_sha=digest(self.model.state_dict())[:12])

    def hear(self, x: np.ndarray, label: np.ndarray) -> Heard:
        """Of images uint8 (n, C, H, W) on the grid."""
        size = room(math.prod(x.shape[1:]))
        with torch.no_grad():
            classify = ask(self.model, "classify")
            log_probs = [
                classify(picture(x[i : i + size]).to(engine.device())).double().cpu()
                for i in range(0, len(x), size)
            ]
        log_p = torch.cat(log_probs).numpy()
        p = decisions.softmax(log_p, self.temperature)
        return Heard(log_p, p, decisions.decide(p, self.threshold), label)

    def both(self, sides: Sides) -> Heard:
        return self.hear(np.concatenate(sides[:2]), np.repeat([0, 1], len(sides.real)))


def calibrate(study: Study, about: dict[str, Any]) -> Detector:
    """The detector that was trained in the study's folder, with a temperature and a band of "cannot tell";
    written to detector.json."""
    bare = Detector(study.folder, Run.open(study.folder).model)
    heard = bare.both(study.calibration)
    temperature = decisions.temperature(heard.log_p, heard.label)
    band = decisions.abstain(decisions.softmax(heard.log_p, temperature), heard.label, about["error"])
    result = dict(temperature=temperature, threshold=band.threshold, decided=band.decided, wrong=band.wrong)
    facts = (
        about
        | dict(weights=digest(bare.model.state_dict()), calibration=len(heard.label))
        | {k: v if math.isfinite(v) else None for k, v in result.items()}
    )
    storage.write(study.folder / FACTS, json.dumps(facts, indent=2, ensure_ascii=True, default=str).encode())
    return Detector(
        study.folder, bare.model, temperature, band.threshold, about["error"], about["data"]["reading"]
    )


def load(folder: Path) -> Detector:
    """The detector in a folder.  Raises Refusal if there is none, BadData if its calibration is damaged or
    belongs to other weights."""
    if not (folder / FACTS).is_file():
        raise Refusal(
            f"{folder} is no detector: it has no {FACTS}.  One is made by: likeness detect RUN... -o {folder}"
        )
    model = Run.open(folder).model
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        temperature, threshold = float(facts["temperature"]), facts["threshold"]
        own, error, reading = facts["weights"], float(facts["error"]), dict(facts["data"]["reading"])
        threshold = math.inf if threshold is None else float(threshold)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as why:
        raise BadData(f"{folder / FACTS} cannot be read ({why}); train the detector again.") from None
    if own != digest(model.state_dict()) or not temperature > 0:
        raise BadData(
            f"{folder / FACTS} was made for other weights than those in {folder}; train the detector again."
        )
    return Detector(folder, model, temperature, threshold, error, reading)


# The examination


class Exam(NamedTuple):
    """Questions to trained detectors, about images that none of them has met."""

    detectors: dict[str, Detector]
    makers: Sequence[Maker]
    test: Sides
    nothing: Sides
    levels: int
    seed: int

    def cards(self) -> Iterator[Score]:
        """Each measure of the detector, then of what it is to be compared with."""
        heard, floor = self.detectors[""].both(self.test), self.detectors["floor"].both(self.nothing)
        yield from self.apart(heard, floor)
        yield from self.answered(heard, floor)
        for how in TREATMENTS:
            rough = self.test.treated(how, self.levels)
            yield self.auroc(f"AUROC after {how}", "", self.detectors[""].both(rough), note=NOTES["rough"])
            yield self.auroc(
                f"AUROC after {how}",
                "clean",
                self.detectors["clean"].both(rough),
                of="trained without",
                note=NOTES["rough"],
            )
        for j, maker in enumerate(self.makers if len(self.makers) > 1 else ()):
            yield from self.stranger(j, maker.name, heard)

    def apart(self, heard: Heard, floor: Heard) -> Iterator[Score]:
        each = [(self.of(heard, j), maker.name) for j, maker in enumerate(self.makers)]
        chance = auroc(floor.odds, floor.label)
        doubt = sentences(leak(chance, len(self.nothing.real)))
        yield self.auroc("AUROC", "", heard, floor=chance, warnings=doubt)
        for part, name in each if len(each) > 1 else ():
            yield self.auroc("AUROC", "", part, of=name, floor=chance)
        yield self.auroc("AUROC", "floor", floor, of="real against real", warnings=doubt)
        for part, detector, of in [
            (heard, "", "model"),
            *((part, "", name) for part, name in each if len(each) > 1),
            (floor, "floor", "real against real"),
        ]:
            yield self.share(
                "accuracy", detector, decisions.accuracy(part.p, part.label), of=of, better="higher"
            )

    def answered(self, heard: Heard, floor: Heard) -> Iterator[Score]:
        """How often it answers, how often wrongly, and whether its probabilities are to be believed."""
        for part, name, of in ((heard, "", "model"), (floor, "floor", "real against real")):
            yield self.share("cannot tell", name, part.says == decisions.CANNOT_TELL, of=of)
        yield self.wrong("wrong among the answers", "", heard)
        right = decisions.calibration(heard.p, heard.label, seed=self.seed)
        before = decisions.calibration(decisions.softmax(heard.log_p), heard.label, seed=self.seed)
        about = dict[str, Any](
            n=len(heard.p),
            split="samples",
            seed=self.seed,
            group=GROUP,
            **self.detectors[""].network,
            better="lower",
            note=f"{NOTES['calibration']}; {decisions.bins_note(right.curve)}",
        )
        for value, of in (
            (right.ece, "model"),
            (before.ece, "uncalibrated"),
            (right.chance, "perfect probabilities"),
        ):
            yield Score("calibration error", value, of=of, **about)

    def stranger(self, j: int, name: str, heard: Heard) -> Iterator[Score]:
        """A maker that a detector has never met, beside the same maker where it was met."""
        detector = f"without-{j}"
        new = self.detectors[detector].both(self.test.of(self.test.maker == j))
        yield self.auroc(f"AUROC, {name} left out", detector, new, note=NOTES["stranger"])
        yield self.auroc(
            f"AUROC, {name} left out", "", self.of(heard, j), of="met in training", note=NOTES["stranger"]
        )
        yield self.share(f"cannot tell, {name} left out", detector, new.says == decisions.CANNOT_TELL)
        yield self.wrong(f"wrong among the answers, {name} left out", detector, new)

    def of(self, heard: Heard, maker: int) -> Heard:
        return heard.of(np.tile(self.test.maker == maker, 2))

    def auroc(self, name: str, detector: str, heard: Heard, **about: Any) -> Score:
        ones, zeros = int((heard.label == 1).sum()), int((heard.label == 0).sum())
        value = auroc(heard.odds, heard.label)
        low, high = spread(value, ones, zeros)
        warnings = sentences(about.pop("warnings", ()), small(min(ones, zeros)))
        known = dict[str, Any](
            how="95 % after Newcombe 2006",
            split="samples",
            seed=self.seed,
            group=GROUP,
            **self.detectors[detector].network,
            note=NOTES["AUROC"],
        )
        return Score(
            name, value, low=low, high=high, n=ones, against=zeros, warnings=warnings, **known | about
        )

    def share(self, name: str, detector: str, values: np.ndarray, **about: Any) -> Score:
        known = dict[str, Any](
            unit="share",
            split="samples",
            group=GROUP,
            **self.detectors[detector].network,
            note=NOTES.get(name, ""),
        )
        return measure(name, values.astype(np.float64), self.seed, **known | about)

    def wrong(self, name: str, detector: str, heard: Heard) -> Score:
        """Of the answers alone; refused where there is none."""
        answered = heard.of(heard.says != decisions.CANNOT_TELL)
        error = self.detectors[detector].error
        about = dict[str, Any](better="lower", note=f"at most {error:.0%} was aimed at")
        if not len(answered.says):
            about |= self.detectors[detector].network
            return Score(
                name,
                math.nan,
                "share",
                split="samples",
                seed=self.seed,
                group=GROUP,
                warnings=(NONE,),
                **about,
            )
        values = answered.says != answered.label
        above = wilson(float(values.sum()), len(values))[0] > error
        return self.share(
            name,
            detector,
            values,
            warnings=sentences(f"more than the {error:.0%} that was aimed at" if above else ""),
            **about,
        )


GROUP = "resemblance"
NONE = (
    "it could tell none of them: too few calibration images to promise so small a share of wrong answers; "
    "give more (-n), or a larger --error"
)
NOTES = {
    "AUROC": "the chance that a generated image looks more generated than a held-out one; one half if "
    "nothing "
    "tells them apart",
    "accuracy": "as many real as generated images, each called the likelier of the two",
    "cannot tell": "share of all images, real and generated",
    "calibration": "mean distance of the probability from how often it is right",
    "rough": "the same treatment of both sides; the other detector has not met any in training",
    "stranger": "a detector that was trained on the other runs only",
}


def leak(value: float, n: int) -> str:
    """What is wrong where real images are told from real ones, n against n, beyond three standard errors
    (Mann & Whitney 1947); or nothing."""
    if abs(value - 0.5) <= 3 * math.sqrt((2 * n + 1) / (12 * n * n)):
        return ""
    return (
        f"real images are told from real ones as well (AUROC {value:.3f}): something beside the generators "
        "leaks into the score"
    )


def spread(value: float, m: int, n: int) -> tuple[float, float]:
    """The 95 % interval of an AUROC of m images against n (Newcombe 2006, part 2, method 5): wherever it is,
    it has a width.

    Like Wilson's of a share it asks which true values the one found is within 1.96 standard errors of.
    """

    def far(theta: float) -> bool:
        extra = ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return abs(value - theta) > Z * math.sqrt(theta * (1 - theta) * (1 + extra) / (m * n))

    ends = []
    for inside, outside in ((value, 0.0), (value, 1.0)):
        for _ in range(40):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if far(middle) else (middle, outside)
        ends.append(inside)
    return ends[0], ends[1]
