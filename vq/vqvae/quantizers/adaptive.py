"""Codebooks of any size made of one: clusters of its vectors, the same on every machine.

RAQ (Seo, Kang, arXiv 2405.14222) makes smaller codebooks of a trained one by differentiable k-means, or by a network.
Here it is k-means with hard assignments, the limit of zero temperature, of codes weighted by their uses: what is small
is the error of the vectors that were quantised, not of the codebook alone. It begins with Ward's merging of clusters.
Vectors are whole numbers, distances exact, and what is not whole is computed number by number in one order.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from core.parallel import broadcast
from vq.search import nearest
from vq.vqvae.quantizer import QuantizerError, straight_through
from vq.vqvae.quantizers.learned import EMAQuantizer

STEP = 2.0**-10  # of vectors as whole numbers
LARGEST = 2.0**20  # of these: sums of squares and of uses stay exact in float64
MOST = 2.0**24  # uses of a code
SHARES = 2**10  # steps of moving averages of uses as whole numbers
ROUNDS = 20  # of k-means, at most
LEAST = 2  # codes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class RateAdaptiveQuantizer(EMAQuantizer):
    """A codebook of moving averages that trains for all sizes.

    In training half of the steps use the whole codebook; the others pass on the nearest vectors of a smaller one, whose
    size is uniform in its logarithm. The codebook itself learns from all steps as ever.
    """

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Quantizer.quantize``; the codes are those of the whole codebook."""
        vectors, codes, loss = super().quantize(rows)
        size = self._draw(rows.device)
        if size == self.size:
            return vectors, codes, loss
        smaller, _ = resized(self.codebook, self.uses * SHARES, size)
        chosen = smaller[nearest(rows.detach(), smaller)]
        return straight_through(rows, chosen), codes, loss + self.commitment * F.mse_loss(rows, chosen)

    def _draw(self, device: torch.device) -> int:
        if not self.training:
            return self.size
        where, whole = broadcast(torch.rand(2, device=device)).tolist()
        return self.size if whole < 0.5 else round(LEAST * math.exp(where * math.log(self.size / LEAST)))


def resized(codebook: Tensor, uses: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A codebook of ``size`` vectors made of one (K, dim) with uses (K,), and the cluster, int64 (K,), of each code.

    Uses are rounded to whole numbers, with one more for each code. The codebook itself where ``size`` is K;
    ``QuantizerError`` unless it is 2 to K.
    """
    check_size(size, len(codebook))
    if size == len(codebook):
        return codebook, torch.arange(size, device=codebook.device)
    whole = np.rint(codebook.detach().cpu().double().numpy() / STEP).clip(-LARGEST, LARGEST)
    weights = np.rint(uses.detach().cpu().double().numpy()).clip(0, MOST) + 1
    centres, labels = clustered(whole, weights, size)
    return torch.from_numpy(centres * STEP).to(codebook), torch.from_numpy(labels).to(codebook.device)


def check_size(size: object, most: int) -> None:
    """Raise ``QuantizerError`` unless a size is a whole number from 2 to ``most``."""
    if isinstance(size, bool) or not isinstance(size, int) or not LEAST <= size <= most:
        raise QuantizerError(f"size={size} must be a whole number from {LEAST} to {most}, the codes that are trained.")


def clustered(vectors: Floats, weights: Floats, size: int) -> tuple[Floats, Ints]:
    """Centres (size, dim) of whole vectors (K, dim) with whole weights (K,) of at least 1, and each vector's centre.

    Ward's merging, then Lloyd's iteration until nothing changes, with centres rounded to whole numbers. Of equal
    choices the lowest. Both are exact, so that every machine finds the same.
    """
    labels = merged(vectors, weights, size)
    for _ in range(ROUNDS):
        centres = _centres(vectors, weights, labels, size)
        before, labels = labels, _distances(vectors, centres).argmin(1)
        if np.array_equal(before, labels) or len(np.unique(labels)) < size:
            labels = before
            break
    return _centres(vectors, weights, labels, size), labels


def merged(vectors: Floats, weights: Floats, size: int) -> Ints:
    """The cluster, 0 to ``size`` - 1, of each vector: the two whose union adds the least squared error become one.

    Ward, "Hierarchical grouping to optimize an objective function", 1963; distances follow Lance and Williams.
    """
    n, labels = weights.copy(), np.arange(len(vectors))
    cost = 2 * _distances(vectors, vectors) * (n[:, None] * n / (n[:, None] + n))  # twice what a union adds
    np.fill_diagonal(cost, np.inf)
    for _ in range(len(vectors) - size):
        i, j = divmod(int(cost.argmin()), len(n))  # i < j: the lowest of equal ones is above the diagonal
        row = ((n + n[i]) * cost[i] + (n + n[j]) * cost[j] - n * cost[i, j]) / (n + n[i] + n[j])
        cost[i], cost[:, i] = row, row  # what is gone stays infinite
        cost[j], cost[:, j] = np.inf, np.inf
        n[i] += n[j]
        labels[labels == labels[j]] = labels[i]
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _distances(a: Floats, b: Floats) -> Floats:
    """Squared distances (n, m) of whole vectors, exact whatever the order of summation."""
    squares: Floats = (a * a).sum(1)[:, None] - 2 * (a @ b.T) + (b * b).sum(1)
    return squares


def _centres(vectors: Floats, weights: Floats, labels: Ints, size: int) -> Floats:
    """Weighted means of clusters, rounded to whole numbers."""
    total = np.bincount(labels, weights, size)
    sums = np.stack([np.bincount(labels, weights * column, size) for column in vectors.T], axis=1)
    means: Floats = np.floor(sums / total[:, None] + 0.5)
    return means
