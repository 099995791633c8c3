"""Diffusion of clips: all frames come out of noise together, by a U-Net that looks along space and time in
turns; from a text, from a first frame, from a clip of fewer or smaller frames.

Ho, Salimans, Gritsenko, Chan, Norouzi & Fleet, "Video Diffusion Models", 2022; Ho et al., "Imagen Video:
High Definition Video Generation with Diffusion Models", 2022.

    x_t = alpha_t x_0 + sigma_t eps
    minimise  E || v_theta(x_t, t, c) - (alpha_t eps - sigma_t x_0) ||^2            v-prediction (Imagen Video, section 2.3)

The network is factorised (parts/spacetime.py).  What else it is told, c, are a class, the words of a text,
and two kinds of planes beside the noisy frames:

    known frames   of a share --prompts of the training clips some frames and a plane that says which: the
                   first one (an image prompt), several first ones (going on from them), or any
    another clip   with fewer frames or smaller ones (--task slow2 slow4 upscale2 upscale4): each frame beside
                   those that it stands for, enlarged.  Such models are the temporal and the spatial
                   super-resolution of Imagen Video (section 2.2), and --augment adds noise to it in training,
                   so that what another model drew will do (section 2.5)

A network that is told frames was trained to go on from them; the reconstruction guidance of Ho et al. 2022,
section 3.1, which leads a network there that was not, is not needed.

Departures: no joint training on stills; words come from an encoder that learns with the model (T5 in Imagen
Video); which frames are known is told by a mask (Voleti et al., "MCVD", 2022, section 3.2) and not by frames
of no noise within the clip; discrete times with the cosine schedule; one temporal convolution of three frames after
each block at every resolution, as Imagen Video has at its higher ones, and temporal attention where 8 pixels
a side or fewer are left.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Condition, Loss, Noise, Refusal, Training, option
from ..parts import chance, classes, samplers
from ..parts.denoising import Denoiser
from ..parts.likelihoods import Gaussian
from ..parts.schedules import BETAS, Steps, mixed, over
from ..parts.spacetime import SpaceTime

T = 1000
FIRST, SEVERAL = 0.4, 0.8
"""of clips with known frames: in the share below FIRST it is the first one, below SEVERAL several first ones,
else any"""
TYPE = "name clips: moving-shapes, or a folder of GIF, WebP or MP4 files with --frames 16"


class Video(Denoiser):
    net: str = option("auto", "kind of network: a factorised space-time U-Net", choices=("auto", "unet"))
    text: str = option(  # type: ignore[assignment]
        "auto",
        "p(x|text): auto learns from the captions where there are any",
        choices=("auto", "none"),
    )
    prompts: float = option(
        0.3,
        "share of training clips of which some frames are told: for image prompts and for going on",
        0.0,
        1.0,
    )
    augment: float = option(
        0.2,
        "most noise that is added in training to the clip that this one is made from (of super-resolution)",
        0.0,
        1.0,
    )

    videos = True
    keeps_early = False
    optimizer: str = option("adam", "what moves the weights", choices=("adam", "muon"))

    defaults = Training(batch=8, rate=1e-3, images=100_000, warmup=2_000, ema=20_000)

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        words, other = self.text == "auto", self.spec.source[0] > 0
        return ("label",) * self.conditional + ("tokens",) * words + ("image",) * other

    @property
    def reads(self) -> bool:
        return self.text == "auto"

    def build(self) -> None:
        spec = self.spec
        if not spec.frames:
            raise Refusal(f"video learns clips, and these are still images; {TYPE}.")
        if spec.size < 4 or not spec.levels:
            raise Refusal(f"video learns clips of 4 pixels a side or more; {TYPE}.")
        self.schedule: Steps = Steps(BETAS["cosine"](T))
        self.p = Gaussian(spec.levels)
        inside = spec.channels + spec.source[0] + (spec.channels + 1) * bool(self.prompts)
        labels = classes.several("video", spec) if self.conditional else 0
        reads = "tokens" in spec.parts(self.takes)
        self.network = SpaceTime(
            spec, self.scale, inside, spec.channels, labels, reads, self.dropout, self.reader
        )

    # What the network is told

    def told_of(self, batch: Batch) -> Condition | None:
        """Class, words and other clip of each example, those that the model takes."""
        if self.conditional:
            classes.required("video", None if batch.y is None else batch.y.label)
        self.image_of(batch.y)
        return None if batch.y is None else batch.y.only(self.takes)

    def drawn_for(self, noise: Noise, y: Condition | None) -> Condition | None:
        self.image_of(y)
        y = None if y is None else y.only(self.takes)
        if self.conditional and (y is None or y.label is None):
            label = classes.drawn(noise, self.spec)
            y = Condition(label) if y is None else Condition(label, y.tokens, y.image)
        return y

    def named(self, y: Condition | None) -> Condition | None:
        self.image_of(y)
        return None if y is None else y.only(self.takes)

    def planes(self, x_t: Tensor, y: Condition | None, frames: Tensor | None, known: Tensor | None) -> Tensor:
        """x_t (B, C, T, H, W), the other clip at its size, and the known frames with a plane that is 1 where
        they are; zeros where there is none of these."""
        parts, spec = [x_t], self.spec
        if spec.source[0]:
            other = None if y is None else y.image
            if other is None:
                other = x_t.new_zeros(len(x_t), spec.source[0], *x_t.shape[2:])
            parts.append(fitted(other, spec.shape).to(x_t.dtype))
        if self.prompts:
            if frames is None or known is None:
                parts.append(x_t.new_zeros(len(x_t), spec.channels + 1, *x_t.shape[2:]))
            else:
                mask = known.to(x_t.dtype).expand(len(x_t), 1, *x_t.shape[2:])
                parts += [frames.to(x_t.dtype) * mask, mask]
        return torch.cat(parts, 1)

    def velocity(
        self,
        x_t: Tensor,
        t: Tensor,
        y: Condition | None = None,
        frames: Tensor | None = None,
        known: Tensor | None = None,
        noise: Noise | None = None,
    ) -> Tensor:
        """v_theta (B, C, T, H, W) at times t (B,).  known: bool (B or 1, 1, T, 1, 1), which of `frames` (B,
        C, T, H, W) are told."""
        out: Tensor = self.network(self.planes(x_t, y, frames, known), (t.float() - 1) * (1000 / T), y, noise)
        return out

    def predict(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        return self.clean(x_t, t, y)

    def clean(
        self,
        x_t: Tensor,
        t: Tensor,
        y: Condition | None = None,
        frames: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """The expected x_0 of noisy clips."""
        v = self.velocity(x_t, t, y, frames, known)
        return over(self.schedule.alpha(t), x_t) * x_t - over(self.schedule.sigma(t), x_t) * v

    # Training

    def loss(self, batch: Batch) -> Loss:
        x_0, noise = batch.x, batch.noise
        y = self.condition(batch)
        t = 1 + (noise.uniform() * T).long()
        eps = noise.normal(*self.spec.shape)
        known = shown(noise, self.spec.frames, self.prompts) if self.prompts else None
        target = over(self.schedule.alpha(t), x_0) * eps - over(self.schedule.sigma(t), x_0) * x_0
        x_t = mixed(self.schedule, x_0, eps, t)
        return Loss(F.mse_loss(self.velocity(x_t, t, y, x_0, known, noise), target))

    def chance(self, batch: Batch) -> dict[str, float]:
        """For the doctor: of one that knows no more of each pixel than its mean and its variance."""
        t = torch.arange(1, T + 1, device=self.schedule.beta.device)
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return {"model": chance.unexplained(batch.x, alpha, sigma, alpha, -sigma, linear=True)}

    # Clips that begin with known frames

    @torch.no_grad()
    def complete(
        self, x: Tensor, known: Tensor, noise: Noise, y: Condition | None = None
    ) -> Iterator[Tensor]:
        """Draw what is not known of clips x (B, C, T, H, W).  known: bool, (T,) for whole frames, which the
        network was trained to be told, or (H, W) or (T, H, W) for pixels, as any denoiser does it."""
        known = known.to(noise.device).bool()
        if known.ndim != 1:
            yield from super().complete(x, known, noise, y)
            return
        if not self.prompts:
            raise Refusal(
                "video: this one was trained with --prompts 0, and has never been told a frame; train one "
                "without that."
            )
        x, mask, y = x.to(noise.device), known.view(1, 1, -1, 1, 1), self.named(y)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            return self.kept(
                self.led(lambda model, y, x_t, t, x: model.clean(x_t, t, y, x, mask), y, x_t, t, x)
            )

        levels = self.levels()
        walk = samplers.heun if self.rule == "heun" else samplers.dpm2m
        for state in walk(denoise, levels, samplers.start(levels, noise, *self.spec.shape), noise):
            yield torch.where(mask, x, state.x if state.at.sigma == 0 else state.x_0)

    @torch.no_grad()
    def animate(self, image: Tensor, noise: Noise, y: Condition | None = None) -> Tensor:
        """Clips (B, C, T, H, W) whose first frame is image (B, C, H, W): an image prompt."""
        x = image.unsqueeze(2).expand(-1, -1, self.spec.frames, -1, -1)
        known = torch.arange(self.spec.frames) == 0
        return last(self.complete(x, known, noise, y))

    @torch.no_grad()
    def extend(self, x: Tensor, frames: int, noise: Noise, y: Condition | None = None) -> Tensor:
        """Clips x (B, C, t, H, W), t >= 1, gone on with to `frames` frames in all, (B, C, frames, H, W): each
        time from the last ones, half as many as the model knows at once."""
        most, keep = self.spec.frames, max(1, self.spec.frames // 2)
        while x.shape[2] < frames:
            told = x[:, :, -keep:]
            n = told.shape[2]
            room = told[:, :, -1:].expand(-1, -1, most - n, -1, -1)
            made = last(self.complete(torch.cat([told, room], 2), torch.arange(most) < n, noise, y))
            x = torch.cat([x, made[:, :, n:]], 2)
        return x[:, :, :frames]


def shown(noise: Noise, frames: int, share: float) -> Tensor:
    """Which frames a training clip is told, bool (B, 1, frames, 1, 1)."""
    some, kind, many = noise.uniform(3).unbind(1)
    number = torch.arange(frames, device=noise.device)
    first = torch.where(kind < FIRST, 1, 1 + (many * max(1, frames // 2)).long())
    any_ = noise.uniform(frames) < many[:, None]
    known = torch.where((kind < SEVERAL)[:, None], number < first[:, None], any_)
    return (known & (some < share)[:, None]).view(len(noise), 1, frames, 1, 1)


def fitted(other: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A clip (B, C, t, h, w) at the frames and the size of `shape`, (.., T, H, W): each frame for T / t ones,
    enlarged as images are.  Raises Refusal where it does not go into it."""
    _, frames, size, _ = shape
    b, _, t, h, _ = other.shape
    if frames % t or h > size:
        raise Refusal(
            f"video: a clip of {t} frames of {h} pixels does not become one of {frames} frames of {size}; "
            "the frames of the other clip must divide those of this one, and be no larger."
        )
    if h != size:
        still = other.transpose(1, 2).flatten(0, 1).float()
        still = F.interpolate(still, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)
        other = still.unflatten(0, (b, t)).transpose(1, 2)
    return other.repeat_interleave(frames // t, 2)


def last(states: Iterator[Tensor]) -> Tensor:
    for x in states:
        final = x
    return final
