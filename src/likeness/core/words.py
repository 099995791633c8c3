"""Words that people bring from other tools, and what they are here.

    SAME      another name of one of our flags: what follows it keeps its meaning, so it is understood
    ANSWERS   what is counted otherwise here, stands elsewhere, or is not needed: answered with what to type

Both are read by the command line (cli/arguments.py) and by `likeness.train(...)`.  A word is written without
dashes before it, and with dashes within.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

SAME = {
    "--rate": "lr learning-rate base-lr init-lr",
    "--batch": "batch-size bs train-batch-size per-device-train-batch-size minibatch-size b",
    "--images": "total-images total-nimg",
    "--size": "resolution image-size img-size imgsz input-size res",
    "--colour": "color",
    "--seed": "random-seed manual-seed rng-seed global-seed",
    "--clip": "grad-clip clip-grad clip-grad-norm max-grad-norm gradient-clip-val",
    "--latent": "latent-dim latent-size z-dim zdim nz code-size embedding-dim",
    "--schedule": "lr-scheduler lr-schedule lr-scheduler-type scheduler sched",
    "--sampler": "scheduler noise-scheduler solver",
    "--held-out": "val-split validation-split val-size test-size test-split holdout",
    "--conditional": "class-cond class-conditional",
    "--compile": "torch-compile jit",
    "--T": "timesteps diffusion-steps num-train-timesteps num-timesteps",
    "--steps": "num-inference-steps inference-steps sampling-steps sample-steps ddim-steps num-steps "
    "total-timesteps",
    "--guidance": "guidance-scale cfg-scale",
    "--worlds": "num-envs n-envs",
    "--gamma": "discount discount-factor",
    "--trace": "gae-lambda lam lambda",
    "--clip-range": "clip-coef clip-eps cliprange clip-ratio",
    "--entropy": "ent-coef entropy-coef",
    "--value": "vf-coef value-coef",
    "--memory": "buffer-size replay-size buffer-capacity",
    "--begin": "learning-starts",
    "--target-every": "target-update-interval target-network-frequency",
    "--exploration": "exploration-fraction",
    "--label": "class class-idx class-id class-label class-labels",
    "--strength": "denoising-strength",
    "--network": "feature-extractor backbone",
    "-n": "num-samples n-samples samples num-images n-images num count sample-size num-fid-samples",
    "-o": "output out outdir output-dir out-dir output-path save-dir save-path dest",
    "-k": "num-neighbors num-neighbours n-neighbors n-neighbours",
}
"""our flag: its other names.  Of two flags that share a name, the first that a verb has is meant"""


@dataclass
class Asked:
    """Where a word was typed."""

    verb: str
    flags: frozenset[str] = frozenset()
    """all that the verb takes, and `DATA`, `RUN`, `MODEL` where it has such a place"""
    batch: int = 0
    """images a step, or 0 where that is not known"""
    count: Callable[[], int | None] = field(default=lambda: None)
    """training images, or None where that cannot be known quickly"""


class Answer(NamedTuple):
    """What a word is here."""

    why: str
    typed: tuple[str, ...] = ()
    """to type in its place; nothing is to leave it out"""
    known: bool = True
    """typed is the very text, and not one that is to be filled in"""


Word = Callable[[str, Asked], Answer]
"""An answer to the word with this value; to "" where it has none"""


def number(text: str) -> float | None:
    try:
        value = float(text.replace("_", "").replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def whole(value: float) -> str:
    return f"{round(value)}"


def _epochs(flag: str, what: str) -> Word:
    def answer(value: str, asked: Asked) -> Answer:
        n, count = number(value), asked.count()
        if n is None or count is None:
            return Answer(
                f"{what} is counted in images here: so many times the training images, which likeness check "
                "DATA counts",
                (flag, "IMAGES"),
                known=False,
            )
        return Answer(
            f"{what} is counted in images here, and {value} x {count:,} training images are "
            f"{round(n * count):,}",
            (flag, whole(n * count)),
        )

    return answer


def _steps(flag: str, what: str) -> Word:
    def answer(value: str, asked: Asked) -> Answer:
        n = number(value)
        if n is None or not asked.batch:
            why = f"{what} is counted in images here: steps times the images of a batch (--batch)"
            return Answer(why, (flag, "IMAGES"), known=False)
        return Answer(
            f"{what} is counted in images here, and {value} steps of --batch {asked.batch} are "
            f"{round(n * asked.batch):,}",
            (flag, whole(n * asked.batch)),
        )

    return answer


def _times(flag: str, factor: float, why: str, blank: str) -> Word:
    def answer(value: str, asked: Asked) -> Answer:
        n = number(value)
        known = n is not None and n > 0
        return Answer(why, (flag, f"{(n or 0) * factor:.12g}" if known else blank), known)

    return answer


def _ema(value: str, asked: Asked) -> Answer:
    """decay^(images / batch) = 1/2."""
    decay, why = (
        number(value),
        "the EMA is counted in images here, after which a weight has faded to one half",
    )
    if decay is None or not 0 < decay < 1 or not asked.batch:
        return Answer(f"{why}: batch x ln 2 / -ln decay", ("--ema", "IMAGES"), known=False)
    images = asked.batch * math.log(0.5) / math.log(decay)
    return Answer(
        f"{why}, which a decay of {value} a step of {asked.batch} images does in {round(images):,}",
        ("--ema", whole(images)),
    )


def _accumulated(value: str, asked: Asked) -> Answer:
    n, why = (
        number(value),
        "a batch is what one step learns from, and --micro is how much of it is computed at once",
    )
    if not n or not asked.batch:
        return Answer(why, ("--batch", "IMAGES", "--micro", "PART"), known=False)
    return Answer(
        f"{why}: {value} x {asked.batch} images",
        ("--batch", whole(n * asked.batch), "--micro", f"{asked.batch}"),
    )


def _always(why: str, *typed: str) -> Word:
    return lambda value, asked: Answer(why, typed)


def _gpu(value: str, asked: Asked) -> Answer:
    """A number of one of them."""
    return Answer(
        "the device is named here, and a GPU is chosen unasked where there is one",
        ("--device", f"cuda:{value}" if value.isdigit() else "cuda"),
    )


def _gpus(value: str, asked: Asked) -> Answer:
    """How many."""
    n = number(value)
    if n is not None and n > 1:
        how = f"torchrun --nproc-per-node {round(n)} -m likeness {asked.verb} ..."
        return Answer(f"a process computes on one device; several share a training that is started by: {how}")
    if value.startswith(("cpu", "mps", "cuda")):
        return Answer("the device is named here", ("--device", value))
    return Answer(
        "the device is named here, and a GPU is chosen unasked where there is one",
        ("--device", "cpu" if n == 0 else "cuda"),
    )


PRODUCTS = "products are in bf16 or fp32 here, since fp16 would need its losses scaled; auto is the faster"


def _precision(value: str, asked: Asked) -> Answer:
    fp32 = value.lower() in ("no", "none", "off", "false", "fp32", "0", "32", "float32")
    return Answer(PRODUCTS, ("--precision", "fp32" if fp32 else "bf16"))


def _channels(value: str, asked: Asked) -> Answer:
    return Answer(
        "the data decide how many channels there are; grey or rgb is asked for by",
        ("--colour", "rgb" if value == "3" else "grey"),
    )


def _place(place: str, why: str) -> Word:
    """What is no flag here, but a word of the command."""

    def answer(value: str, asked: Asked) -> Answer:
        if value and asked.verb != "train":
            return Answer(f"{why}: likeness {asked.verb} ... {value}", (value,))
        return Answer(f"{why}: likeness train MODEL DATA [RUN]", (value or place,), known=bool(value))

    return answer


IMAGES = "the length of a training"
TRAINING = "--warmup"
"""a flag that training has and nothing else"""
ANSWERS: dict[str, tuple[str, Word]] = {
    "epochs num-epochs n-epochs max-epochs epoch num-train-epochs nepochs": (
        TRAINING, _epochs("--images", IMAGES)),
    "steps max-steps num-steps n-steps train-steps num-train-steps max-train-steps training-steps "
    "total-steps iterations iters num-iterations n-iterations num-iters n-iter niter max-iter max-iters": (
        TRAINING, _steps("--images", IMAGES)),
    "kimg total-kimg": (
        TRAINING, _times("--images", 1000, f"{IMAGES} is counted in single images here", "IMAGES")),
    "hours max-hours": ("--minutes", _times("--minutes", 60, "time is in minutes here", "MINUTES")),
    "seconds max-seconds": ("--minutes", _times("--minutes", 1 / 60, "time is in minutes here", "MINUTES")),
    "warmup-steps lr-warmup-steps num-warmup-steps warmup-iters": (
        TRAINING, _steps("--warmup", "the warm-up")),
    "warmup-epochs lr-warmup-epochs": (TRAINING, _epochs("--warmup", "the warm-up")),
    "ema-decay ema-rate ema-beta model-ema-decay ema-max-decay": ("--ema", _ema),
    "gradient-accumulation-steps accumulate-grad-batches grad-accum accum-iter accumulation-steps": (
        "--micro", _accumulated),
    "gpu gpu-id cuda-device": ("--device", _gpu),
    "gpus num-gpus n-gpu n-gpus ngpu devices": ("--device", _gpus),
    "accelerator": ("--device", lambda value, asked: _gpus(value.replace("gpu", "cuda"), asked)),
    "cuda use-cuda use-gpu": ("--device", _always("the device is named here", "--device", "cuda")),
    "no-cuda cpu use-cpu no-gpu": ("--device", _always("the device is named here", "--device", "cpu")),
    "mps use-mps": ("--device", _always("the device is named here", "--device", "mps")),
    "fp16 amp bf16 half use-fp16 use-amp": ("--precision", _always(PRODUCTS, "--precision", "bf16")),
    "fp32 no-amp no-fp16": ("--precision", _always(PRODUCTS, "--precision", "fp32")),
    "mixed-precision autocast dtype": ("--precision", _precision),
    "hflip horizontal-flip random-flip flip-augment": (
        "--mirror", _always("images are mirrored by", "--mirror")),
    "gray grey grayscale greyscale": ("--colour", _always("channels are chosen by", "--colour", "grey")),
    "channels n-channels num-channels in-channels img-channels": ("--colour", _channels),
    "cond": ("--conditional", _always("a model learns the classes by", "--conditional")),
    "workers num-workers nw j dataloader-num-workers num-threads prefetch-factor": (
        "", _always("images are decoded once and then mapped into memory, so there are no workers to count")),
    "data dataset datadir data-dir data-path data-root dataset-name train-data-dir train-dir input": (
        "DATA", _place("DATA", "the data are a word of the command, not a flag")),
    "model arch architecture model-name": (
        "MODEL", _place("MODEL", "the model is a word of the command, not a flag")),
    "output out outdir output-dir out-dir save-dir save-path logdir log-dir logging-dir name run-name "
    "exp-name experiment-name checkpoint-dir": (
        "RUN", _place("RUN", "the run folder is a word of the command, not a flag")),
    "resume resume-from resume-from-checkpoint checkpoint ckpt ckpt-path network-pkl load restore": (
        "RUN", _place("RUN", "a run is named by its folder, and the same command goes on where it is")),
    "save-every save-interval save-steps save-freq checkpoint-every checkpointing-steps snap": (
        TRAINING, _always("a run saves itself every two minutes, when it is stopped, and at the end")),
    "log-every log-interval logging-steps log-freq print-freq wandb use-wandb report-to": (
        TRAINING, _always("curves are in RUN/log.jsonl and in RUN/report.html without being asked for")),
    "optimizer optimiser optim opt weight-decay wd momentum betas adam-beta1 adam-beta2": (
        TRAINING, _always("the optimiser is part of the model, as its paper has it (denoisers: --optimizer); "
                          "a copy of its file with another is trained by: likeness train ./mine.py DATA")),
}  # fmt: skip
"""words: the flag or the place that a verb must have for this to be an answer ("" is any), and the answer"""

BARE = (
    "cuda use-cuda use-gpu no-cuda cpu use-cpu no-gpu mps use-mps fp16 amp bf16 half use-fp16 use-amp fp32 "
    "no-amp no-fp16 hflip horizontal-flip random-flip flip-augment gray grey grayscale greyscale cond wandb "
    "use-wandb autocast"
)
"""words that no value follows"""

VERBS = {
    "train": "fit learn run start resume finetune fine-tune",
    "sample": "generate gen draw synthesize synthesise infer inference predict",
    "imagine": "txt2img text2img text-to-image prompt dalle dall-e",
    "imagic": "text-edit edit-text instruct",
    "evaluate": "eval test validate metrics fid benchmark",
    "complete": "inpaint inpainting outpaint fill",
    "paint": "igan stroke strokes sketch brush draw-on",
    "edit": "img2img sdedit image2image",
    "reconstruct": "invert inversion project decode autoencode",
    "style": "stylize stylise neural-style style-transfer gatys",
    "translate": "transform upscale colourise colorize superresolve apply",
    "score": "nll likelihood bpd logp log-prob log-likelihood anomaly",
    "latent": "interpolate interpolation traverse traversal arithmetic",
    "field": "receptive-field",
    "walk": "slerp lerp morph directions ganspace",
    "trace": "trajectory pixel-by-pixel frames steps",
    "diffuse": "denoise noise schedule diffusion",
    "features": "embed embedding embeddings encode extract activations",
    "play": "rl agent enjoy watch act rollout",
    "studio": "gui ui web webui browser serve server dashboard app demo gradio",
    "map": "tsne t-sne umap pca cluster visualize visualise plot",
    "neighbours": "neighbors knn nn nearest search retrieve similar",
    "look": "saliency gradcam grad-cam explain attribution adversarial fool dream deepdream attack",
    "detect": "fake deepfake spot",
    "bayes": "classify calibrate calibration",
    "export": "save convert diffusers",
    "check": "info inspect profile stats verify",
    "completion": "autocomplete completions",
    "models": "list ls model zoo",
    "data": "datasets dataset download sets",
}
"""our verb: its other names"""


def plain(word: str) -> str:
    """--Batch_Size is batch-size."""
    return re.sub(r"_", "-", word.lstrip("-")).lower()


def same(word: str, flags: Iterable[str]) -> str:
    """Our flag for a word of SAME, if it is one of these; or nothing."""
    there = set(flags)
    return next((flag for flag, names in SAME.items() if word in names.split() and flag in there), "")


def of_training(word: str, flags: Iterable[str]) -> bool:
    """Whether it is about training, and that is what is asked for: there --num-steps are not a sampler's."""
    return TRAINING in flags and any(
        word in names.split() and needs == TRAINING for names, (needs, _) in ANSWERS.items()
    )


def answer(word: str, value: str, asked: Asked) -> Answer | None:
    """What the word is, or None where nobody knows."""
    for names, (needs, make) in ANSWERS.items():
        if word in names.split() and (not needs or needs in asked.flags):
            return make(value, asked)
    return None


ARGUMENTS = {"DATA": "source", "MODEL": "model", "RUN": "folder"}
"""places of a command, and what they are called in Python"""


def argument(name: str, value: object, asked: Asked) -> str:
    """The same for `likeness.train(name=value)`, as the end of a sentence; nothing where nobody knows."""
    word = plain(name)
    if not of_training(word, asked.flags) and (ours := same(word, asked.flags)):
        return f"it is called {_named(ours)} here: write {_named(ours)}={value!r}."
    for names, (needs, _) in ANSWERS.items():
        if word in names.split() and needs in ARGUMENTS:
            return f"that is the argument {ARGUMENTS[needs]} of likeness.train."
    result = answer(word, "" if isinstance(value, bool) else f"{value}", asked)
    if result is None:
        return ""
    pairs = list(zip(result.typed[::2], [*result.typed[1::2], ""]))
    typed = ", ".join(f"{_named(flag)}={_literal(text)}" for flag, text in pairs)
    return f"{result.why}; {f'write {typed}' if typed else 'leave it out'}."


def _named(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _literal(text: str) -> str:
    return "True" if not text else text if number(text) is not None or text.isupper() else repr(text)


def verb(word: str) -> str:
    """Our verb for a word of VERBS; or nothing."""
    return next((verb for verb, names in VERBS.items() if plain(word) in names.split()), "")
