"""The quantisers of LL-VQ-VAE (Khalil et al., arXiv 2310.09382) as published: vq, vq-ema and the diagonal lattice.

Parameter names are those of the official checkpoints. A quantiser turns rows (N, dim) into whole numbers (N, blocks,
rank), ``rank`` of which belong together in one block: a codebook has one number per row, a diagonal lattice one block
of rank 1 per dimension.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from core import parallel
from lattice.points import LatticeError
from lattice.points_coder import WINDOW
from lattice.published import DESIRED

LARGEST = 2**23  # of a coordinate: beyond it float32 skips whole numbers
SCORES = 2**19  # distances to codewords held at once: 2 MB, which stay in the cache


class Quantized(NamedTuple):
    """What a quantiser makes of rows z (N, dim) in training."""

    vectors: Tensor  # (N, dim), with a gradient to z
    loss: Tensor  # scalar of the quantiser itself
    bits: Tensor  # scalar: an estimate of all rows' rate; it has a gradient where the rate is trained


class RowQuantizer(nn.Module):
    """Base of all quantisers of the family."""

    def __init__(self, dim: int, blocks: int, rank: int) -> None:
        super().__init__()
        if min(dim, blocks, rank) < 1:
            raise LatticeError(
                f"a quantiser of {dim} dimensions in {blocks} blocks of {rank} is empty: use at least 1."
            )
        self.dim, self.blocks, self.rank = dim, blocks, rank

    window = WINDOW  # symbols that the coder counts one by one

    @property
    def chain(self) -> NDArray[np.int64]:
        """The triangle (rank, rank) of how coordinates of a block depend on each other (``lattice.points_coder``)."""
        return np.eye(self.rank, dtype=np.int64)

    def forward(self, rows: Tensor) -> Quantized:
        """Quantise rows (N, dim) for training."""
        raise NotImplementedError

    def encode(self, rows: Tensor) -> Tensor:
        """Rows (N, dim) -> int64 (N, blocks, rank)."""
        raise NotImplementedError

    def decode(self, k: Tensor) -> Tensor:
        """Whole numbers (N, blocks, rank) -> rows (N, dim)."""
        raise NotImplementedError

    def settle(self) -> None:
        """Called once when training has ended, before anything is counted."""


class Codebook(RowQuantizer):
    """vq: codewords by gradient, uniform in +-1 / codes at the start; losses of van den Oord et al."""

    def __init__(self, dim: int = 64, codes: int = DESIRED, commitment: float = 0.25) -> None:
        super().__init__(dim, 1, 1)
        if codes < 2:
            raise LatticeError(f"a codebook of {codes} codes carries nothing: use at least 2.")
        self.commitment, self.codes, self.window = commitment, codes, max(codes, WINDOW)
        self.embedding = nn.Embedding(codes, dim)
        self.start()

    def start(self) -> None:
        """Draw the first codewords."""
        nn.init.uniform_(self.embedding.weight, -1 / self.codes, 1 / self.codes)

    def forward(self, rows: Tensor) -> Quantized:
        """See ``RowQuantizer.forward``; ``bits`` are those of the batch's own code frequencies."""
        index = self.encode(rows)[:, 0, 0]
        vectors = self.embedding(index)
        loss = self.losses(rows, vectors)
        bits = self.batch_bits(index)
        self.learn(rows, index)
        return Quantized(rows + (vectors - rows).detach(), loss, bits)

    def losses(self, rows: Tensor, vectors: Tensor) -> Tensor:
        """Codebook and commitment loss."""
        return F.mse_loss(vectors, rows.detach()) + self.commitment * F.mse_loss(rows, vectors.detach())

    def learn(self, rows: Tensor, index: Tensor) -> None:
        """What follows a training step besides the gradient: nothing here."""

    @torch.no_grad()
    def batch_bits(self, index: Tensor) -> Tensor:
        """Entropy of the codes (N,) of a batch, in bits, times N."""
        share = torch.bincount(index, minlength=self.codes).double() / max(1, len(index))
        return -torch.xlogy(share, share).sum() / math.log(2) * len(index)

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Tensor:
        """The nearest codeword of each row, by |z|^2 + |c|^2 - 2 z.c in this order, as published; at ties the first.

        Shorter forms round otherwise and choose other ones of codewords that are nearly the same.
        """
        weight = self.embedding.weight
        sizes, step = weight.square().sum(1), max(1, SCORES // self.codes)
        parts: tuple[Tensor, ...] = torch.split(rows, step)
        found = [(p.square().sum(1, keepdim=True) + sizes - 2 * (p @ weight.T)).argmin(1) for p in parts]
        return torch.cat(found)[:, None, None]

    @torch.no_grad()
    def decode(self, k: Tensor) -> Tensor:
        vectors: Tensor = self.embedding(k[:, 0, 0])
        return vectors


class MovingCodebook(Codebook):
    """vq-ema: codewords are moving averages of the rows they stand for (decay 0.99), updated after each step."""

    ema_cluster_size: Tensor

    def __init__(self, dim: int = 64, codes: int = DESIRED, commitment: float = 0.25, decay: float = 0.99) -> None:
        super().__init__(dim, codes, commitment)
        self.decay = decay
        self.register_buffer("ema_cluster_size", torch.zeros(codes))
        self.ema_w = nn.Parameter(torch.randn(codes, dim), requires_grad=False)
        self.embedding.weight.requires_grad_(False)

    def start(self) -> None:
        nn.init.normal_(self.embedding.weight)

    def losses(self, rows: Tensor, vectors: Tensor) -> Tensor:
        """The commitment loss alone."""
        return self.commitment * F.mse_loss(rows, vectors.detach())

    @torch.no_grad()
    def learn(self, rows: Tensor, index: Tensor) -> None:
        """Move sizes (smoothed by 1e-5) and sums towards the batch's, all processes together."""
        if not self.training:
            return
        counts = parallel.all_sum(torch.bincount(index, minlength=self.codes).to(rows))
        sums = parallel.all_sum(torch.zeros_like(self.ema_w).index_add_(0, index, rows))
        size = self.ema_cluster_size
        size.mul_(self.decay).add_(counts, alpha=1 - self.decay)
        total = size.sum()
        size.copy_((size + 1e-5) / (total + self.codes * 1e-5) * total)
        self.ema_w.mul_(self.decay).add_(sums, alpha=1 - self.decay)
        self.embedding.weight.copy_(self.ema_w / size[:, None])


class DiagonalLattice(RowQuantizer):
    """The paper's learnable lattice: a spacing b_j per dimension, z -> b_j round(z / b_j).

    ``sparsity`` +1 (sparse) pushes the spacings up, -1 (dense) down. The published start is uniform in +-B with
    B = 1 / (codes^(1/dim) - 1), for a desired number of codes; dense ones start uniform in +-1 (``codes`` 0).
    Spacings may be negative.
    """

    def __init__(self, dim: int = 64, codes: int = DESIRED, sparsity: float = 1.0, commitment: float = 0.25) -> None:
        super().__init__(dim, dim, 1)
        if codes and codes < 2:
            raise LatticeError(f"codes={codes} make no spacing: use at least 2.")
        self.commitment, self.sparsity = commitment, sparsity
        reach = 1 / (codes ** (1 / dim) - 1) if codes else 1.0
        self.embedding = nn.Embedding(1, dim)
        nn.init.uniform_(self.embedding.weight, -reach, reach)

    def forward(self, rows: Tensor) -> Quantized:
        """``bits``: entropies of Gaussians of the coordinates' variances, an upper bound without gradient."""
        spacing = self.embedding.weight
        k = torch.round(rows.detach() * (1 / spacing))
        vectors = k * spacing  # the spacings learn with k held fixed
        loss = F.mse_loss(vectors, rows.detach()) + self.commitment * F.mse_loss(rows, vectors.detach())
        loss = loss - self.sparsity * spacing.abs().sum()
        spread = torch.log2(2 * math.pi * math.e * (k.var(0) + 1 / 12)).clamp(min=0).sum() / 2 * len(rows)
        return Quantized(rows + (vectors - rows).detach(), loss, spread.detach())

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Tensor:
        """round(z * (1 / b)), half to even, as published; held within 2**23."""
        k = torch.round(rows * (1 / self.embedding.weight)).nan_to_num(0.0)
        return k.clamp(-LARGEST, LARGEST).long()[:, :, None]

    @torch.no_grad()
    def decode(self, k: Tensor) -> Tensor:
        """b_j k_j."""
        vectors: Tensor = k[:, :, 0] * self.embedding.weight
        return vectors
