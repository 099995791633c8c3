"""Denoising U-Nets to and from the library diffusers, in its folders, without that library.

    model_index.json                                    which classes read the rest
    unet/config.json                                    what the network is built from
    unet/diffusion_pytorch_model.safetensors            its weights
    scheduler/scheduler_config.json                     what noise it was trained with

diffusers.DDPMPipeline.from_pretrained(folder) loads what to_diffusers() writes, and draws from it.
from_diffusers() reads such folders, whoever made them, if the network is one that parts/unet.py can build;
pickled weights are never opened.

A U-Net on squares of 2x2 pixels (--net patches, which a ddpm of images of 16 pixels and more has by default)
is none that UNet2DModel can be: its first and last convolution work at full resolution, around the squares,
and no block there turns space into channels.  It stays the default, since it learns more in equal time;
obstacle() says so when training begins, and what to type instead.

Times: there a network is told of the first step by 0 and of the last by T - 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from .. import storage
from ..core import BadData, Model, Refusal, Spec
from ..models.ddpm import DDPM
from ..parts.denoisers import best, plan
from ..parts.unet import Block, Plan, UNet

STEPS = 1000
"""of the forward process: with fewer ours are still told times up to 1000, and those of diffusers are not"""
INDEX, CONFIG, WEIGHTS, SCHEDULER = (
    "model_index.json",
    "config.json",
    "diffusion_pytorch_model.safetensors",
    "scheduler_config.json",
)
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
"""what the network says: our word and theirs"""
BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
VARIANCES = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}
LARGEST = 65_536
"""features of a layer, above which a config is not believed"""


@dataclass(frozen=True)
class Facts:
    """What a diffusion model is beside its network, in the words of our DDPM."""

    size: int
    """of its images, in pixels a side"""
    steps: int = STEPS
    beta: str = "linear"
    """variances of the steps: linear from 0.0001 to 0.02, or cosine"""
    predicts: str = "eps"
    """eps, x0 or v"""
    variance: str = "small"
    """of a reverse step: small, large or learned"""
    clip: bool = True
    """the expected image is kept within [-1, 1]"""


# Names of weights


def named(net: UNet) -> Iterator[tuple[str, Tensor]]:
    """Every weight by its name in diffusers' UNet2DModel; those that are parts of a larger one of ours are
    views of it."""
    for path, module in net.named_modules():
        if path == "told":
            yield from in_parts(
                module,
                [
                    f"{diffusers_name(name)}.time_emb_proj"
                    for name, m in net.named_modules()
                    if isinstance(m, Block)
                ],
                net.widths,
            )
        elif isinstance(module, nn.Linear) and path.endswith(".qkv"):
            layer = diffusers_name(path.removesuffix(".heads.qkv"))
            yield from in_parts(
                module, [f"{layer}.to_{letter}" for letter in "qkv"], [module.in_features] * 3
            )
        else:
            yield from (
                (f"{diffusers_name(path)}.{name}", p) for name, p in module.named_parameters(recurse=False)
            )


def in_parts(layer: nn.Module, names: list[str], widths: list[int]) -> Iterator[tuple[str, Tensor]]:
    for kind, p in layer.named_parameters():
        yield from ((f"{name}.{kind}", part) for name, part in zip(names, p.split(widths), strict=True))


WHOLE = {
    "first": "conv_in",
    "norm": "conv_norm_out",
    "last": "conv_out",
    "time.0": "time_embedding.linear_1",
    "time.2": "time_embedding.linear_2",
}
PARTS = {
    "down": "down_blocks",
    "up": "up_blocks",
    "middle": "mid_block",
    "blocks": "resnets",
    "skip": "conv_shortcut",
    "norm": "group_norm",
}
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""names of attention in files of before 2023"""


def diffusers_name(path: str) -> str:
    """The name of a layer in diffusers: down.0.blocks.1.skip is down_blocks.0.resnets.1.conv_shortcut."""
    if path in WHOLE:
        return WHOLE[path]
    words = path.split(".")
    if words[-1] == "resize":
        words[-1:] = ["downsamplers" if words[0] == "down" else "upsamplers", "0", "conv"]
    if words[-2:] == ["heads", "out"]:
        words[-2:] = ["to_out", "0"]
    return ".".join(PARTS.get(word, word) for word in words)


# There


def to_diffusers(net: nn.Module, facts: Facts, folder: Path, y: int | None = None) -> None:
    """Write a folder that diffusers.DDPMPipeline loads.

    y: of a network that knows classes, the one that is to be drawn, or their number for none: the pipeline
    has no word for it, so that what the network is told of the class goes into a bias.
    """
    net = suitable(net, facts, y)
    weights = {
        name: p.detach().float().cpu().contiguous().clone()
        for name, p in named(net)
        if not name.startswith("label.")
    }
    if net.label is not None and y is not None:
        weights["time_embedding.linear_2.bias"] += net.label.weight[y].detach().float().cpu()
    for part in ("unet", "scheduler"):
        storage.make(folder / part)
    storage.write(folder / "unet" / WEIGHTS, serialise(weights, metadata={"format": "pt"}))
    write(folder / "unet" / CONFIG, config_of(net.plan, facts.size))
    write(folder / "scheduler" / SCHEDULER, scheduler_of(facts))
    write(
        folder / INDEX,
        dict(
            _class_name="DDPMPipeline",
            scheduler=["diffusers", "DDPMScheduler"],
            unet=["diffusers", "UNet2DModel"],
        ),
    )


def export(model: Model, folder: Path, label: int | None = None) -> str:
    """Write a trained ddpm, of images and with a U-Net, as such a folder.  label: the class that the pipeline
    is to draw, where there are any.  Returns what the pipeline cannot do that the model can, or nothing."""
    if not isinstance(model, DDPM):
        raise Refusal(
            f"{type(model).__name__.lower()} has no pipeline of diffusers that draws from it; a ddpm has "
            "one.  For an ONNX file type: likeness export RUN model.onnx"
        )
    if label is not None and "label" not in model.takes:
        raise Refusal(
            f"this model is not class-conditional, so that it has no class {label}; leave --label out."
        )
    if label is not None and not 0 <= label < model.spec.labels:
        raise Refusal(f"there is no label {label}: the model knows 0 to {model.spec.labels - 1}.")
    if why := obstacle(model):
        raise Refusal(why)
    facts = Facts(
        model.spec.size,
        model.T,
        model.beta,
        model.predicts,
        model.variance,
        bool(model.spec.levels) and model.clips,
    )
    to_diffusers(
        model.network,
        facts,
        folder,
        (model.spec.labels if label is None else label) if model.conditional else None,
    )
    return lost(model, label)


def lost(model: DDPM, label: int | None) -> str:
    """What a pipeline without a word for classes leaves behind of a conditional model, and what to type
    instead."""
    if not model.conditional:
        return ""
    k = model.spec.labels
    if label is None:
        return (
            f"the model knows {k} classes, and the pipeline draws from all; for one that draws "
            "one class, type --label CLASS"
        )
    return f"the pipeline draws this class alone, of the {k} that the model knows"


def obstacle(model: Model) -> str:
    """Why export() will refuse a ddpm, however long it is trained, and what to type to train one that it
    takes; empty where nothing is in the way."""
    if not isinstance(model, DDPM) or (
        isinstance(net := model.network, UNet)
        and model.T == STEPS
        and model.spec.size % halvings(net.plan) == 0
    ):
        return ""
    if "image" in model.takes:
        return (
            "a DDPMPipeline of diffusers draws from noise alone, and this ddpm from another image; translate "
            "with it here, or export one that is trained on images without pairs."
        )
    if model.text:
        return (
            "a DDPMPipeline of diffusers draws from noise alone, and this ddpm reads texts; imagine with it "
            "here, or export one that is trained without --text."
        )
    if model.spec.size == 1:
        return (
            "diffusers has pipelines for images, and none for points or codes of one pixel; export a ddpm "
            "of images."
        )
    wanted = plan(model.spec, model.scale, 1, 0)
    even, spec = halvings(wanted), model.spec
    fitting = max(1, round(spec.size / even)) * even
    if fitting != spec.size and not spec.levels:
        return (
            f"codes of {spec.size} pixels cannot be halved evenly {len(wanted.channels) - 1} times, and "
            "diffusers takes no others; export a ddpm of images."
        )
    reasons = [
        *(
            []
            if isinstance(model.network, UNet)
            else [f"a network of --net {best(spec) if model.net == 'auto' else model.net}"]
        ),
        *([] if model.T == STEPS else [f"--T {model.T}"]),
        *(
            []
            if fitting == spec.size
            else [
                f"images of {spec.size} pixels, which cannot be halved evenly {len(wanted.channels) - 1} "
                "times"
            ]
        ),
    ]
    size = [] if fitting == spec.size else ["--size", str(fitting)]
    again = " ".join(["likeness train ddpm DATA RUN --net unet", *size, *flags(model)])
    return (
        f"diffusers does not know {', nor '.join(reasons)}; to train a model that can be exported, type: "
        f"{again}"
    )


def flags(model: DDPM) -> list[str]:
    """What was asked for when the model was made and is not the default, as it is typed; without what
    export() needs otherwise."""
    out = list[str]()
    for f in fields(model):
        value = getattr(model, f.name)
        if f.name not in ("spec", "net", "T") and not f.metadata["live"] and value != f.default:
            out += [
                f"--{f.name.replace('_', '-')}",
                *([] if value is True else [f"{value:g}" if isinstance(value, float) else str(value)]),
            ]
    return out


def halvings(plan: Plan) -> int:
    """What the sides of an image must be a multiple of, to be halved evenly."""
    return 2 ** (len(plan.channels) - 1)


def write(path: Path, content: dict[str, Any]) -> None:
    storage.write(path, (json.dumps(content, indent=2) + "\n").encode())


def suitable(net: nn.Module, facts: Facts, y: int | None) -> UNet:
    if not isinstance(net, UNet):
        raise Refusal(
            f"diffusers has no network like this one ({type(net).__name__.lower()}); train one with --net "
            "unet to take it there."
        )
    plan, even = net.plan, halvings(net.plan)
    if plan.times != 1:
        raise Refusal(
            f"this network is told {plan.times} times at once, and those of diffusers one; a ddpm can be "
            "taken there."
        )
    if facts.size % even:
        raise Refusal(
            f"images of {facts.size} pixels cannot be halved evenly {len(plan.channels) - 1} times, and "
            "diffusers takes no others; train on images with --size "
            f"{max(1, round(facts.size / even)) * even} to take the network there."
        )
    if plan.text:
        raise Refusal(
            "this network reads texts, and diffusers' DDPMPipeline has none; train one without --text to "
            "take it there."
        )
    if plan.labels and (y is None or not 0 <= y <= plan.labels):
        raise Refusal(
            f"this network knows {plan.labels} classes and diffusers' DDPMPipeline can ask for none; say "
            f"which one it is to draw, 0 to {plan.labels - 1}, or {plan.labels} for no class."
        )
    if not plan.labels and y is not None:
        raise Refusal(f"class {y} was asked for, and this network knows no classes; leave the class out.")
    for name, known in (("beta", BETAS), ("predicts", PREDICTIONS), ("variance", VARIANCES)):
        if getattr(facts, name) not in known:
            raise Refusal(
                f"--{name} {getattr(facts, name)} has no word in diffusers; it knows {', '.join(known)}."
            )
    refuse_other_times(facts.steps)
    return net


def refuse_other_times(steps: int) -> None:
    if steps != STEPS:
        raise Refusal(
            f"a network of {steps} steps is told other times here than in diffusers; only one of {STEPS} "
            "steps is the same in both."
        )


def config_of(plan: Plan, size: int) -> dict[str, Any]:
    down = ["AttnDownBlock2D" if attends else "DownBlock2D" for attends in plan.attention]
    return dict(
        _class_name="UNet2DModel",
        sample_size=size,
        in_channels=plan.inside,
        out_channels=plan.outside,
        flip_sin_to_cos=plan.cosine_first,
        freq_shift=plan.shift,
        down_block_types=down,
        up_block_types=[name.replace("Down", "Up") for name in reversed(down)],
        block_out_channels=list(plan.channels),
        layers_per_block=plan.blocks,
        downsample_padding=plan.pad,
        dropout=plan.dropout,
        attention_head_dim=plan.head,
        norm_num_groups=plan.groups,
        norm_eps=plan.eps,
        add_attention=plan.middle,
        **SAME,
    )


SAME: dict[str, Any] = dict(
    center_input_sample=False,
    time_embedding_type="positional",
    time_embedding_dim=None,
    mid_block_type="UNetMidBlock2D",
    mid_block_scale_factor=1,
    downsample_type="conv",
    upsample_type="conv",
    act_fn="silu",
    attn_norm_num_groups=None,
    resnet_time_scale_shift="default",
    class_embed_type=None,
    num_class_embeds=None,
)
"""options of UNet2DModel that must be as they are by default for the network to be one of ours"""


def scheduler_of(facts: Facts) -> dict[str, Any]:
    return dict(
        _class_name="DDPMScheduler",
        num_train_timesteps=facts.steps,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule=BETAS[facts.beta],
        variance_type=VARIANCES[facts.variance],
        prediction_type=PREDICTIONS[facts.predicts],
        clip_sample=facts.clip,
        clip_sample_range=1.0,
        # Steps.even: fewer steps than there are begin at the last one, where all is noise, and not below it
        timestep_spacing="trailing",
    )


# And back


def from_diffusers(folder: Path) -> tuple[UNet, Facts]:
    """The network of such a folder, in float32, and how it was trained; the unconditional UNet2DModel only.

    Raises Refusal where the network is none of ours, saying which option is in the way, and BadData where
    files are damaged.
    """
    inside = folder / "unet" if (folder / "unet").is_dir() else folder
    config = read(inside / CONFIG)
    plan, size = plan_of(config)
    facts = facts_of(read(scheduler_file(folder)), size, plan)
    with torch.device("meta"):
        expected = {name: p.shape for name, p in named(UNet(plan))}
    weights = load(inside, expected)
    net = UNet(plan)
    with torch.no_grad():
        for name, p in named(net):
            p.copy_(weights[name])
    return net, facts


def opened(folder: Path) -> DDPM:
    """The model in such a folder: it samples, denoises and bounds as one that was trained here.  Raises as
    from_diffusers does."""
    net, facts = from_diffusers(folder)
    kind: type[Model] = DDPM
    options: dict[str, Any] = dict(
        net="unet",
        T=facts.steps,
        beta=facts.beta,
        predicts=facts.predicts,
        variance=facts.variance,
        scale=0.25,
    )
    model = cast(DDPM, kind(spec=Spec(net.plan.inside, facts.size), **options))
    model.network, model.clips = net, facts.clip
    return model.eval()


def scheduler_file(folder: Path) -> Path:
    """Old folders have all files in one place."""
    return folder / SCHEDULER if (folder / SCHEDULER).exists() else folder / "scheduler" / SCHEDULER


def read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text())
    except FileNotFoundError:
        raise Refusal(
            f"there is no {path}; name a folder written by diffusers' save_pretrained, of a pipeline with a "
            "U-Net and a scheduler."
        ) from None
    except OSError as error:
        raise storage.trouble(error, path) from error
    except ValueError:
        raise BadData(f"{path} is damaged; copy the folder anew.") from None
    if not isinstance(result, dict):
        raise BadData(f"{path} is damaged; copy the folder anew.")
    return result


def must(
    config: dict[str, Any], what: str, values: dict[str, Any], default: dict[str, Any] | None = None
) -> None:
    """Refuse a config in which an option is none of the values that it may have."""
    for name, allowed in values.items():
        result = config.get(name, (default or values)[name])
        if result != allowed:
            raise Refusal(f"{what} has {name} {result!r}, and only {allowed!r} can be taken over.")


def plan_of(config: dict[str, Any]) -> tuple[Plan, int]:
    """What our U-Net is built from, and the size of its images; what the config leaves out is as diffusers
    would have it."""
    must(config, "the network", dict(_class_name="UNet2DModel"), dict(_class_name=None))
    must(config, "the network", SAME)
    channels = numbers(config, "block_out_channels", [224, 448, 672, 896])
    down = config.get("down_block_types", ["DownBlock2D", *["AttnDownBlock2D"] * 3])
    if (
        not isinstance(down, list)
        or len(down) != len(channels)
        or not all(name in ("DownBlock2D", "AttnDownBlock2D") for name in down)
    ):
        raise Refusal(
            f"the network has down_block_types {down!r}, and only DownBlock2D and AttnDownBlock2D, one for "
            f"each of {channels}, can be taken over."
        )
    up = [name.replace("Down", "Up") for name in reversed(down)]
    must(
        config,
        "the network",
        dict(up_block_types=up),
        dict(up_block_types=[*["AttnUpBlock2D"] * 3, "UpBlock2D"]),
    )
    plan = Plan(
        inside=number(config, "in_channels", 3),
        outside=number(config, "out_channels", 3),
        channels=tuple(channels),
        attention=tuple(name.startswith("Attn") for name in down),
        blocks=number(config, "layers_per_block", 2, most=16),
        groups=number(config, "norm_num_groups", 32),
        head=None if config.get("attention_head_dim", 8) is None else number(config, "attention_head_dim", 8),
        middle=bool(config.get("add_attention", True)),
        dropout=real(config, "dropout", 0.0),
        eps=real(config, "norm_eps", 1e-5),
        cosine_first=bool(config.get("flip_sin_to_cos", True)),
        shift=number(config, "freq_shift", 0, least=0, most=1),
        pad=number(config, "downsample_padding", 1, least=0, most=1),
    )
    attended = [c for c, attends in zip(channels, plan.attention) if attends] + [channels[-1]] * plan.middle
    if (
        any(c % plan.groups for c in channels)
        or any(c % (plan.head or c) for c in attended)
        or channels[0] % 2
    ):
        raise Refusal(
            f"the network has block_out_channels {channels}, norm_num_groups {plan.groups} and "
            f"attention_head_dim {plan.head}; only numbers of channels that these divide can be taken over."
        )
    return plan, number(config, "sample_size", None)


def number(
    config: dict[str, Any], name: str, default: int | None, least: int = 1, most: int = LARGEST
) -> int:
    result = config.get(name, default)
    if not isinstance(result, int) or isinstance(result, bool) or not least <= result <= most:
        raise Refusal(
            f"the network has {name} {result!r}, and only whole numbers from {least} to {most} can be taken "
            "over."
        )
    return result


def real(config: dict[str, Any], name: str, default: float) -> float:
    result = config.get(name, default)
    if not isinstance(result, int | float) or not 0 <= result < 1:
        raise Refusal(f"the network has {name} {result!r}, and only a number from 0 to 1 can be taken over.")
    return float(result)


def numbers(config: dict[str, Any], name: str, default: list[int]) -> list[int]:
    result = config.get(name, default)
    if not isinstance(result, list) or not 1 <= len(result) <= 16:
        raise Refusal(
            f"the network has {name} {result!r}, and only a list of 1 to 16 numbers can be taken over."
        )
    return [number({name: each}, name, None) for each in result]


def facts_of(config: dict[str, Any], size: int, plan: Plan) -> Facts:
    """How a network was trained, from its scheduler's config."""
    schedule = config.get("beta_schedule", "linear")
    must(config, "the scheduler", dict(trained_betas=None, rescale_betas_zero_snr=False, thresholding=False))
    if schedule == "linear":
        must(config, "the scheduler", dict(beta_start=1e-4, beta_end=0.02))
    steps = number(config, "num_train_timesteps", STEPS)
    refuse_other_times(steps)
    facts = Facts(
        size=size,
        steps=steps,
        beta=named_here(BETAS, "beta_schedule", schedule),
        predicts=named_here(PREDICTIONS, "prediction_type", config.get("prediction_type", "epsilon")),
        variance=named_here(VARIANCES, "variance_type", config.get("variance_type", "fixed_small")),
        clip=bool(config.get("clip_sample", True)),
    )
    if plan.outside != plan.inside * (2 if facts.variance == "learned" else 1):
        raise Refusal(
            f"the network makes {plan.outside} channels of {plan.inside}, and with variance_type "
            f"{VARIANCES[facts.variance]} it should be "
            f"{plan.inside * (2 if facts.variance == 'learned' else 1)}; this is not a model of images "
            "alone."
        )
    return facts


def named_here(words: dict[str, str], name: str, config: Any) -> str:
    for own, other in words.items():
        if other == config:
            return own
    raise Refusal(
        f"the scheduler has {name} {config!r}, and only {', '.join(words.values())} can be taken over."
    )


def load(folder: Path, expected: dict[str, torch.Size]) -> dict[str, Tensor]:
    """The weights, which must be those that are expected, no more and no fewer; looked at before
    any is read."""
    path = folder / WEIGHTS
    if not path.exists():
        raise Refusal(
            f"there is no {WEIGHTS} in {folder}; files that end in .bin are programs as much as weights and "
            "are never opened: load them with diffusers where you trust them and type "
            "save_pretrained(folder, safe_serialization=True)."
        )
    try:
        with safe_open(path, "pt") as file:
            names = {renamed(name): name for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
            shapes = {name: torch.Size(file.get_slice(there).get_shape()) for name, there in names.items()}
            for name in sorted(shapes.keys() | expected.keys()):
                if shapes.get(name) != expected.get(name):
                    a, b = (tuple(s[name]) if name in s else "missing" for s in (shapes, expected))
                    raise Refusal(f"{path} does not fit its config: {name} is {a} and should be {b}.")
            return {name: file.get_tensor(there).float() for name, there in names.items()}
    except (SafetensorError, OSError) as error:
        raise BadData(f"{path} cannot be read ({error}); copy it anew.") from None


def renamed(name: str) -> str:
    *layer, old, kind = name.split(".")
    return ".".join([*layer, OLD.get(old, old), kind]) if "attentions" in layer else name
