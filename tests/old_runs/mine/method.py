"""A model file of a user, as today's docs teach it."""

from torch import Tensor, nn
from likeness.core import Batch, Loss, Model, Training, option
from likeness.noise import Noise
from likeness.parts import resnet


class Mine(Model):
    latent: int = option(8, "numbers in the code", 1, 4096)
    defaults = Training(rate=1e-3)
    conditional = True

    def build(self) -> None:
        self.encoder = resnet.encoder(self.spec.channels, self.spec.size, self.latent, 8, 1)
        self.decoder = resnet.decoder(self.latent, self.spec.channels, self.spec.size, 8, 1)
        self.classes = nn.Embedding(max(1, self.spec.labels), self.latent)

    def loss(self, batch: Batch) -> Loss:
        z = self.encode(batch.x) + batch.noise.normal(self.latent) * 0.1
        if batch.y is not None:
            z = z + self.classes(batch.y)
        return Loss((self.decode(z) - batch.x).square().mean())

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def sample(self, noise: Noise, y: Tensor | None = None):
        z = noise.normal(self.latent)
        yield self.decode(z if y is None else z + self.classes(y))
