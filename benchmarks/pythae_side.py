"""pythae (0.1.2), used as its documentation says, on the networks and the data of our VAE."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any

from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

from likeness.core import Model

logging.disable(logging.CRITICAL)


class Encoder(BaseEncoder):  # type: ignore[misc]
    """Ours; pythae's images are 0 or 1 where ours are -1 or 1."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> ModelOutput:
        mu, log_var = self.net(x * 2 - 1).chunk(2, 1)
        return ModelOutput(embedding=mu, log_covariance=log_var)


class Decoder(BaseDecoder):  # type: ignore[misc]
    """Ours; pythae's binary cross-entropy asks for probabilities where ours has logits."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.net(z).sigmoid())


def twin(vae: Model) -> VAE:
    """pythae's VAE with a copy of the networks of ours: the same function at the same weights."""
    config = VAEConfig(input_dim=vae.spec.shape, latent_dim=vae.latent, reconstruction_loss="bce")
    return VAE(config, encoder=Encoder(deepcopy(vae.encoder)), decoder=Decoder(deepcopy(vae.decoder)))


def untwin(model: VAE, vae: Model) -> Model:
    """The weights of a twin, back in ours."""
    vae.encoder.load_state_dict(model.encoder.net.state_dict())
    vae.decoder.load_state_dict(model.decoder.net.state_dict())
    return vae


class Done(Exception):
    """The only way to end pythae's loop before its last epoch."""


class Watch(TrainingCallback):  # type: ignore[misc]
    """Tells `tick` how many images have been seen after each step, until it answers True."""

    def __init__(self, images: int, batch: int, tick: Callable[[int], bool]):
        self.images, self.batch, self.tick = images, batch, tick
        self.epoch = self.step = 0

    def on_train_step_begin(self, training_config: Any, **kwargs: Any) -> None:
        """Once an epoch, whatever its name."""
        self.epoch, self.step = self.epoch + 1, 0

    def on_train_step_end(self, training_config: Any, **kwargs: Any) -> None:
        self.step += 1
        if self.tick((self.epoch - 1) * self.images + min(self.step * self.batch, self.images)):
            raise Done


def train(
    model: VAE, x: Tensor, batch: int, rate: float, workers: int, fused: bool, tick: Callable[[int], bool]
) -> None:
    """pythae's own loop over x (N, C, H, W) of 0 and 1, until tick(images seen) is True."""
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=batch,
            train_dataloader_num_workers=workers,
            num_epochs=10**6,
            learning_rate=rate,
            optimizer_cls="AdamW",
            optimizer_params={"fused": True} if fused else None,
            no_cuda=True,
        )
        with suppress(Done):
            TrainingPipeline(model=model, training_config=config)(
                train_data=x, callbacks=[Watch(len(x), batch, tick)]
            )
