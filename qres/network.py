"""The networks of the quantised hierarchical VAEs: the layers of an architecture, and the model that runs them.

Graphical model, coarse to fine (x image, z_i latents, f the top-down state)::

    f_0 = bias;   p(z_i | z_<i) = N(mean_i(f), scale_i(f)) * U(-1/2, 1/2);   f <- merge_i(f, z_i);   x_hat = head(f)

Coding: s_i = round(posterior_i - mean_i), z_i = s_i + mean_i; s_i is entropy-coded under scale_i.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from core.registry import unknown
from core.similarity import ms_ssim
from core.train import Step
from qres.architectures import Architecture, Layer
from qres.blocks import CNX, CNXDown, Gaussian, LambdaEmbedding, Latent, VDLatent, up
from qres.likelihood import code_log_likelihood, train_log_likelihood

LN2 = math.log(2)
MS_SSIM_SCALE = 0.04  # of 1 - MS-SSIM against squared error, so that a lambda buys about the same rate with either


class Encoder(nn.Module):
    """The bottom-up path; returns the features of each resolution that the latent blocks see."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.kept = arch.kept
        self.enc_blocks = nn.ModuleList(self._block(layer, arch) for layer in arch.encoder)

    @staticmethod
    def _block(layer: Layer, arch: Architecture) -> nn.Module:
        kind, *args = layer
        if kind == "patch":
            return nn.Conv2d(3, args[0], args[1], stride=args[1])
        kinds: dict[str, Callable[..., nn.Module]] = {"cnx": CNX, "down": CNXDown}
        return kinds[kind](*args, embedding=arch.embedding, gamma=arch.gamma)

    def forward(self, x: Tensor, condition: Tensor | None) -> dict[int, Tensor]:
        """Normalised images (B, 3, H, W) -> {height: features (B, C, height, width)}."""
        features = {}
        for i, block in enumerate(self.enc_blocks):
            x = block(x, condition) if isinstance(block, CNX) else block(x)
            if i in self.kept:
                features[x.shape[2]] = x
        return features


class TopDown:
    """What a top-down path is made of: latent blocks and up-sampling layers in order, and the learned start."""

    dec_blocks: nn.ModuleList
    bias: nn.Parameter  # (1, W0, 1, 1)
    memory_format: torch.memory_format

    def start(self, batch: int, height: int, width: int) -> Tensor:
        """The state before the first latent, (B, W0, height, width)."""
        return self.bias.expand(batch, -1, height, width).contiguous(memory_format=self.memory_format)


class Decoder(TopDown, nn.Module):
    """The top-down path as a module of its own."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.dec_blocks = nn.ModuleList(self._block(layer, arch) for layer in arch.decoder)
        self.bias = nn.Parameter(torch.zeros(1, arch.top_width, 1, 1))
        self.memory_format = torch.channels_last

    @staticmethod
    def _block(layer: Layer, arch: Architecture) -> nn.Module:
        kind, *args = layer
        if kind == "latent":
            width, z, kernel = args
            return VDLatent(width, z, kernel, len(arch.latents), arch.embedding, arch.gamma, arch.least)
        if kind == "up":
            return up(*args)
        if kind == "nearest":
            return nn.Upsample(scale_factor=args[0])
        width, out, kernel = args
        return nn.ConvTranspose2d(width, out, kernel, stride=2, padding=kernel // 2, output_padding=1)


class QResVAE(nn.Module):
    """A quantised hierarchical VAE; ``lmb`` weighs distortion in the loss.

    Distortion is the mean squared error of the (-1, 1) image, or with ``target`` ms_ssim 0.04 (1 - MS-SSIM). With
    ``arch.embedding`` the model serves all lambdas in ``lmb_range``; training draws one per image, log-uniformly.
    ``straight_through`` trains the decoder on rounded latents (Minnen and Singh, arXiv 2007.08739, section 3.3)
    where the paper adds uniform noise; the rate is that of the noisy ones in both. For the share ``hard_tail`` of the
    steps, at the end, latents are rounded for the rate, too, and encoder and posteriors stay as they are (soft then
    hard: Guo et al., arXiv 2104.05168). ``lambda_draw`` is log (uniform in ln lambda) or cubic (in its cube root, as
    QARV draws it).
    """

    training_options: ClassVar[tuple[str, ...]] = ("straight_through", "hard_tail", "lambda_draw")
    code_log_likelihood = staticmethod(code_log_likelihood)  # what the quantised path counts as its rate
    if TYPE_CHECKING:  # modules under these names; properties in subclasses whose checkpoints have others

        @property
        def decoder(self) -> TopDown: ...

        @property
        def embedding(self) -> nn.Module | None: ...

    def __init__(
        self, arch: Architecture, lmb: float, lmb_range: tuple[float, float] = (4, 2048), target: str = "mse"
    ) -> None:
        super().__init__()
        if target not in ("mse", "ms_ssim"):
            raise unknown("target", target, ("mse", "ms_ssim"))
        self.arch, self.lmb, self.lmb_range, self.target = arch, float(lmb), lmb_range, target
        self.straight_through, self.hard_tail, self.lambda_draw = False, 0.0, "log"
        self._hard = False  # whether this step is one of the hard tail
        self._build(arch)

    def _build(self, arch: Architecture) -> None:
        """Make the modules, under the names of the published checkpoints."""
        self.encoder = Encoder(arch)
        self.add_module("decoder", Decoder(arch))
        self.add_module("embedding", LambdaEmbedding(arch.embedding) if arch.embedding else None)
        self.out_net: nn.ModuleDict | None = None
        if arch.decoder[-1][0] == "latent":  # the lossless model: mean and log-scale of each pixel
            width = arch.decoder[-1][1]
            self.out_net = nn.ModuleDict({"conv_mean": up(width, 3, 4), "conv_scale": up(width, 3, 4)})

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of features, ``torch.channels_last`` unless set to ``torch.contiguous_format``."""
        return self.decoder.memory_format

    @memory_format.setter
    def memory_format(self, value: torch.memory_format) -> None:
        """Set the layout of features."""
        self.decoder.memory_format = value

    @property
    def stride(self) -> int:
        """The factor between the image and the coarsest latent."""
        return self.arch.stride

    @property
    def conditional(self) -> bool:
        """Whether it serves all lambdas."""
        return self.embedding is not None

    @property
    def freezes(self) -> bool:
        """Whether the encoder has no gradient in the end."""
        return self.hard_tail > 0

    @torch.no_grad()
    def at_lambda(self) -> QResVAE:
        """The network for ``lmb`` alone that computes the same: the modulation is folded into the LayerNorms."""
        made = QResVAE(replace(self.arch, embedding=0), self.lmb, self.lmb_range, self.target)
        state = self.state_dict()
        condition = self.condition(torch.tensor([self.lmb]))
        for name, block in self.named_modules():
            if isinstance(block, CNX) and block.film is not None:
                scale, shift = block.film(condition)[0].chunk(2)
                state[f"{name}.norm.weight"] = block.norm.weight * (1 + scale)
                state[f"{name}.norm.bias"] = block.norm.bias * (1 + scale) + shift
        made.load_state_dict({name: state[name] for name in made.state_dict()})
        return made

    # -- the two paths ------------------------------------------------------------------------------------------

    def condition(self, lmb: Tensor | None) -> Tensor | None:
        """The conditioning vector of lambda (B,), or None for a model of one rate."""
        return None if self.embedding is None else self.embedding(lmb)

    def features(self, images: Tensor, condition: Tensor | None = None) -> dict[int, Tensor]:
        """Bottom-up features of images (B, 3, H, W) in [0, 1]; H and W multiples of ``arch.stride``."""
        x = (images + self.arch.shift) * self.arch.scale
        return self.encoder(x.contiguous(memory_format=self.memory_format), condition)

    def top_down(self, shape: tuple[int, int, int], visit: Any, condition: Tensor | None = None) -> Tensor:
        """Run the decoder; ``visit(i, block, f, prior)`` gives the latent z of block i. Returns the last state.

        ``shape`` is (B, H / stride, W / stride). The state is (B, 3, H, W) in (-1, 1), unclamped (lossy models) or
        features for ``out_net`` (the lossless one).
        """
        f, i = self.decoder.start(*shape), 0
        for block in self.decoder.dec_blocks:
            if isinstance(block, Latent):
                f, prior = block.propose(f, condition)
                f = block.merge(f, visit(i, block, f, prior), condition)
                i += 1
            else:
                f = block(f, condition) if isinstance(block, CNX) else block(f)
        return f

    def pixel_prior(self, last: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and raw log-scale of each pixel, (B, 3, H, W), on the (-1, 1) scale; the lossless model's head."""
        assert self.out_net is not None
        return self.out_net["conv_mean"](last).float(), self.out_net["conv_scale"](last).float()

    # -- training -----------------------------------------------------------------------------------------------

    def draw_lambda(self, images: Tensor) -> Tensor:
        """lambda for each image: drawn from ``lmb_range`` when training a conditional model, else ``lmb``."""
        if not (self.training and self.embedding is not None):
            return images.new_full((len(images),), self.lmb)
        drawn = torch.rand(len(images), device=images.device)
        if self.lambda_draw == "cubic":
            low, high = (v ** (1 / 3) for v in self.lmb_range)
            return (low + (high - low) * drawn) ** 3
        low, high = (math.log(v) for v in self.lmb_range)
        return torch.exp(low + (high - low) * drawn)

    def begin_step(self, step: int, steps: int) -> None:
        """Told by the training loop: whether the hard tail has begun."""
        self._hard = self.hard_tail > 0 and step >= (1 - self.hard_tail) * steps

    def loss_weight(self, lmb: Tensor) -> Tensor:
        """What the loss of each image counts in training, (B,).

        In the conditional model the losses of different lambdas are brought to one scale, so no rate dominates.
        """
        return (lmb / 64) ** -0.4 if self.training and self.embedding is not None else torch.ones_like(lmb)

    def forward(self, images: Tensor, noise: list[Tensor] | None = None) -> Step:
        """The training objective of a batch (B, 3, H, W) in [0, 1] (in eval mode: of the quantised path).

        loss = KL / dims + lmb * distortion in nats per dimension (equation 9 of the paper); ``bits`` are per
        pixel, ``distortion`` is the MSE on the [0, 1] scale (or 1 - MS-SSIM). ``noise`` fixes the noise of each block.
        """
        lmb = self.draw_lambda(images)
        hard = self.training and self._hard
        with torch.set_grad_enabled(torch.is_grad_enabled() and not hard):
            condition = self.condition(lmb)
            features = self.features(images, condition)
        nats = images.new_zeros(len(images))

        def visit(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
            nonlocal nats
            with torch.set_grad_enabled(torch.is_grad_enabled() and not hard):
                mean = block.infer(f, features[f.shape[2]], condition)
            if hard:  # the latents are given: decoder and priors learn, the means of the priors by the rate
                z = (torch.round(mean - prior.mean) + prior.mean).detach()
                nats = nats - train_log_likelihood(z - prior.mean, prior.scale, 1.0).sum((1, 2, 3))
            elif self.training:
                z = mean + (torch.rand_like(mean) - 0.5 if noise is None else noise[i])
                nats = nats - train_log_likelihood(z - prior.mean, prior.scale, 1.0).sum((1, 2, 3))
                if self.straight_through:
                    z = mean + (torch.round(mean - prior.mean) + prior.mean - mean).detach()
            else:
                symbols = torch.round(mean - prior.mean)
                z = symbols + prior.mean
                nats = nats - self.code_log_likelihood(symbols, prior.scale).sum((1, 2, 3))
            return z

        b, _, h, w = images.shape
        last = self.top_down((b, h // self.arch.stride, w // self.arch.stride), visit, condition)
        target = (images - 0.5) * 2
        kl = nats / target[0].numel()
        if self.out_net is not None:
            nll = -self.pixel_log_likelihood(last, target).mean((1, 2, 3))
            return Step((kl + nll).mean(), (kl + nll).mean() * 3 / LN2, nll.mean())
        output = last.float()
        error = self._error(output, target)
        shown = self._error(output.clamp(-1, 1), target).mean() / (4 if self.target == "mse" else MS_SSIM_SCALE)
        return Step((self.loss_weight(lmb) * (kl + lmb * error)).mean(), kl.mean() * 3 / LN2, shown)

    def _error(self, output: Tensor, target: Tensor) -> Tensor:
        """The distortion of each image, (B,), of images (B, 3, H, W) in (-1, 1)."""
        if self.target == "mse":
            return ((output - target) ** 2).mean((1, 2, 3))
        similarity = ms_ssim((output + 1) / 2, (target + 1) / 2, data_range=1.0)
        return MS_SSIM_SCALE * (1 - similarity)

    def pixel_log_likelihood(self, last: Tensor, target: Tensor) -> Tensor:
        """ln P of each pixel (B, 3, H, W) under the lossless model's discretised normal, bins of 1 / 127.5."""
        mean, log_scale = self.pixel_prior(last)
        scale = torch.exp(nn.functional.softplus(log_scale + 16) - 16)
        return train_log_likelihood(target - mean, scale, 1 / 127.5)
