"""Quantisers made of quantisers: of the residual, stage after stage, of scaled vectors, and of parts of a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.parallel import all_sum, broadcast, world_size
from vq.vqvae.quantizer import Quantizer, QuantizerError, straight_through

SMALL = 1e-6  # added to variances


class ResidualQuantizer(Quantizer):
    """Each stage quantises what the ones before left over (SoundStream, arXiv 2107.03312, section III-C).

    The first codes of a vector are its codes with fewer stages, and ``lookup`` takes any number of them: fewer bits
    from the same weights. With ``dropout`` every training step uses a random number of stages, the same on all ranks,
    so that each prefix works.
    """

    def __init__(self, stages: Sequence[Quantizer], dropout: bool = False) -> None:
        if not stages or len({stage.dim for stage in stages}) > 1 or any(len(s.codebook_sizes) > 1 for s in stages):
            raise QuantizerError("a residual quantiser needs one or more stages of one book and one dimension.")
        super().__init__(stages[0].dim, tuple(s.codebook_sizes[0] for s in stages))
        self.stages: Sequence[Any] = nn.ModuleList(stages)  # type: ignore[assignment]
        self.dropout = dropout

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Quantizer.quantize``; codes (N, stages used)."""
        left, total, codes, losses = rows, torch.zeros_like(rows), [], []
        for stage in self.stages[: self._depth(rows.device)]:
            vectors, chosen, loss = stage.quantize(left)
            left, total = left - vectors.detach(), total + vectors.detach()
            codes.append(chosen)
            losses.append(loss)
        return straight_through(rows, total), torch.cat(codes, dim=1), torch.stack(losses).mean()

    def lookup(self, codes: Tensor) -> Tensor:
        parts = self.check_codes(codes).split(1, dim=-1)
        return torch.stack([stage.lookup(p) for stage, p in zip(self.stages, parts, strict=False)]).sum(0)

    def check_codes(self, codes: Tensor) -> Tensor:
        """See ``Quantizer.check_codes``; of the first stages, as many as there are columns."""
        return self.checked(codes, self.codebook_sizes[: codes.shape[-1]])

    def _depth(self, device: torch.device) -> int:
        if not (self.training and self.dropout):
            return len(self.stages)
        return int(broadcast(torch.randint(1, len(self.stages) + 1, (1,), device=device)))


class Standardised(Quantizer):
    """A quantiser of vectors that are scaled to mean 0 and variance 1 in each dimension first, and back after it.

    The invertible normalisation of RFSQ (arXiv 2508.15860): without it later stages get residuals that are small
    against their range. Means and variances are moving averages over all ranks, constants of the trained model. The
    commitment is to the scaled-back vectors: without it the encoder grows its latents, and the variances with them.
    """

    def __init__(self, inner: Quantizer, *, commitment: float = 0.25, decay: float = 0.99) -> None:
        super().__init__(inner.dim, inner.codebook_sizes)
        self.inner, self.commitment, self.decay = inner, commitment, decay
        self.mean: Tensor
        self.variance: Tensor
        self.ready: Tensor
        self.register_buffer("mean", torch.zeros(inner.dim))
        self.register_buffer("variance", torch.ones(inner.dim))
        self.register_buffer("ready", torch.tensor(False))

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Quantizer.quantize``; in training the averages move first."""
        if self.training:
            self._follow(rows.detach())
        vectors, codes, loss = self.inner.quantize((rows - self.mean) / self._spread())
        vectors = vectors * self._spread() + self.mean
        return vectors, codes, loss + self.commitment * F.mse_loss(rows, vectors.detach())

    def lookup(self, codes: Tensor) -> Tensor:
        return self.inner.lookup(codes) * self._spread() + self.mean

    def _spread(self) -> Tensor:
        return (self.variance + SMALL).sqrt()

    @torch.no_grad()
    def _follow(self, rows: Tensor) -> None:
        moments = all_sum(torch.stack([rows.mean(0), rows.square().mean(0)])) / world_size()
        share = 1 - self.decay if bool(self.ready) else 1.0
        self.mean.lerp_(moments[0], share)
        self.variance.lerp_((moments[1] - moments[0].square()).clamp(min=0), share)
        self.ready.fill_(True)


class ProductQuantizer(Quantizer):
    """Equal parts of a vector, each with a quantiser of its own (Jegou, Douze, Schmid, 2011)."""

    def __init__(self, parts: Sequence[Quantizer]) -> None:
        if not parts or len({part.dim for part in parts}) > 1 or any(len(p.codebook_sizes) > 1 for p in parts):
            raise QuantizerError("a product quantiser needs one or more parts of one book and one dimension.")
        super().__init__(sum(part.dim for part in parts), tuple(p.codebook_sizes[0] for p in parts))
        self.parts: Sequence[Any] = nn.ModuleList(parts)  # type: ignore[assignment]

    @staticmethod
    def part(dim: int, books: int) -> int:
        """The dimensions of each of ``books`` parts of a vector; ``QuantizerError`` where they do not divide."""
        if books < 1 or dim % books:
            raise QuantizerError(f"{dim} dimensions cannot be shared by {books} books: use a divisor of {dim}.")
        return dim // books

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pieces = rows.split(self.dim // len(self.parts), dim=1)
        vectors, codes, losses = zip(*(p.quantize(x) for p, x in zip(self.parts, pieces, strict=True)), strict=True)
        return torch.cat(vectors, dim=1), torch.cat(codes, dim=1), torch.stack(losses).mean()

    def lookup(self, codes: Tensor) -> Tensor:
        columns = self.check_codes(codes).split(1, dim=-1)
        return torch.cat([part.lookup(c) for part, c in zip(self.parts, columns, strict=True)], dim=-1)
