"""Autoencoder: a short code from which the image can be made again.

Rumelhart, Hinton & Williams 1986; Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural
Networks", Science 2006.

    minimise  || x - decode(encode(x)) ||^2

With linear networks this is principal component analysis (Baldi & Hornik 1989).  Two variants keep a large
code from copying its input:

    denoising   encode a corrupted x, restore the clean one: Vincent et al., "Extracting and Composing Robust
    Features with
                Denoising Autoencoders", 2008, by Gaussian noise or by masking
    sparse      a code that is zero nearly everywhere: rectified, with its sum penalised

With --grid h the code is an image as well, latent / h^2 numbers at each of h x h places, for a second model
to learn.

Nothing here says how codes are distributed.  The loss asks for a good decoding of the codes of real images
only; these lie on some curved sheet with holes, and a code drawn at random falls beside it, where the decoder
was never asked anything.  So there is no way to sample, no density, and no bits per dimension: that is what a
variational autoencoder adds.

Departures: no layer is trained first by itself, as restricted Boltzmann machines are in 2006; convolutions
with residual blocks unless --net mlp; squared error in place of cross-entropy; the sum of a sparse code is
weighed by the decoder's first weights.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Batch, Loss, Model, Noise, Training, option
from ..parts import chance, mlp, resnet


class AE(Model):
    latent: int = option(32, "numbers in the code", 1, 4096)
    grid: int = option(
        0, "height and width of a code that is an image, latent numbers in all; 0 is a vector", 0, 1024
    )
    net: str = option(
        "conv",
        "kind of both networks; linear is principal component analysis",
        choices=("conv", "mlp", "linear"),
    )
    width: int = option(16, "channels at 14 pixels, when net is conv", 4, 512)
    hidden: int = option(400, "units of a hidden layer, when net is mlp", 4, 8192)
    depth: int = option(2, "residual blocks a level, or hidden layers", 0, 16)
    corruption: str = option(
        "none", "what is done to the images before they are encoded", choices=("none", "gaussian", "masking")
    )
    amount: float = option(0.3, "standard deviation of that noise, or share of pixels masked", 0.0, 10.0)
    sparsity: float = option(0.0, "weight of the code's sum; above 0 the code is rectified", 0.0, 100.0)

    defaults = Training(batch=128, rate=2e-3, images=200_000, warmup=10_000, ema=200_000)

    def build(self) -> None:
        c, size = self.spec.channels, self.spec.size
        if self.grid:
            resnet.check_grid("ae", self.net, size, self.latent, self.grid)
        if self.net == "conv":
            self.encoder = resnet.encoder(c, size, self.latent, self.width, self.depth, self.grid)
            self.decoder = resnet.decoder(self.latent, c, size, self.width, self.depth, self.grid)
        else:
            depth = 0 if self.net == "linear" else self.depth
            self.encoder = mlp.encoder(self.spec.shape, self.latent, self.hidden, depth)
            self.decoder = mlp.decoder(self.latent, self.spec.shape, self.hidden, depth)

    def corrupt(self, x: Tensor, noise: Noise) -> Tensor:
        """Vincent et al. 2008, section 2.3: a masked pixel becomes black, in all channels."""
        if self.corruption == "gaussian":
            return x + self.amount * noise.normal(*self.spec.shape)
        if self.corruption == "masking":
            return x.masked_fill(noise.uniform(1, *self.spec.shape[1:]) < self.amount, -1.0)
        return x

    def loss(self, batch: Batch) -> Loss:
        z = self.encode(self.corrupt(batch.x, batch.noise))
        error = F.mse_loss(self.decoder(z).float(), batch.x)
        if not self.sparsity:
            return Loss(error)
        size = self.code_size(z)
        return Loss(error + self.sparsity * size / self.spec.dims, {"error": error, "code": size})

    def chance(self, batch: Batch) -> dict[str, float]:
        """For the doctor: the squared error of the mean image."""
        return {"error" if self.sparsity else "model": chance.variances(batch.x).mean().item()}

    def code_size(self, z: Tensor) -> Tensor:
        """Each code times the length of what it adds to the decoder's first layer, else small codes and large
        weights would cost nothing."""
        first = next(m for m in self.decoder.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
        length = first.weight.square().sum(0)
        if self.grid:
            length = length.sum((1, 2)).repeat_interleave(self.grid**2)
        return (z.abs() @ length.sqrt()).mean()

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, latent): with a grid the channels of an image, one after another."""
        z: Tensor = self.encoder(x).float()
        return z.clamp(min=0) if self.sparsity else z

    def decode(self, z: Tensor) -> Tensor:
        """(B, latent) to images (B, C, H, W)."""
        out: Tensor = self.decoder(z)
        return out.float().clamp(-1, 1) if self.spec.levels else out.float()
