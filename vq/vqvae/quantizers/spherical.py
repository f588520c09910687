"""Quantisers on the unit sphere: signs (BSQ), groups with one learned codebook (GSQ), and Leech's minimal vectors."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.golay import LENGTH, golay_code
from vq.vqvae.quantizer import Quantizer, QuantizerError, straight_through
from vq.vqvae.quantizers.learned import VectorQuantizer
from vq.vqvae.quantizers.scalar import Digits, entropy_loss

WORDS, OCTADS = 4096, 759
ODD, EVEN = LENGTH * WORDS, 128 * OCTADS  # vectors of the forms (-3, 1^23) and (2^8, 0^16)
MINIMAL = ODD + EVEN + 4 * LENGTH * (LENGTH - 1) // 2  # and (4^2, 0^22): 196,560 in all
BOOKS = (546, 360)  # whose product that is
NORM = math.sqrt(32)  # of a minimal vector in whole numbers
ROWS = 256  # vectors that are searched at once: 4 MB of scores


class BSQ(Digits):
    """Binary spherical quantisation (Zhao, Xiong, Kraehenbuehl, arXiv 2406.07548): signs of a unit vector.

    A unit vector u goes to sign(u) / sqrt(bits), so at most sqrt(2 - 2 / sqrt(bits)) away: no commitment is needed.
    The entropy loss is that of the soft assignment, whose bits are independent: P(+) = sigmoid(4 t u / sqrt(bits))
    with t the ``sharpness``; the mean's entropy is taken per bit, as published.
    """

    def __init__(self, bits: int, *, entropy: float = 0.1, sharpness: float = 10.0) -> None:
        if bits < 1:
            raise QuantizerError(f"binary spherical quantisation needs at least 1 bit, not {bits}.")
        super().__init__((2,) * bits)
        self.entropy, self.sharpness, self.length = entropy, sharpness, bits**-0.5

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (N, bits) -> values -1 and 1 over sqrt(bits)."""
        units = F.normalize(rows, dim=1)
        positive = units > 0
        signs = (positive.to(rows.dtype) * 2 - 1) * self.length
        loss = rows.new_zeros(())
        if self.training:
            loss = self.entropy * entropy_loss(4 * self.sharpness * self.length * units)
        return straight_through(units, signs), self.pack(positive.long()), loss

    def lookup(self, codes: Tensor) -> Tensor:
        return (self.unpack(codes).float() * 2 - 1) * self.length


class GroupedSpherical(Quantizer):
    """Grouped spherical quantisation (Wang et al., arXiv 2412.02632, equations 3 to 5): equal parts, one codebook.

    Parts and codes are compared on the unit sphere of ``part`` dimensions, on which the codebook starts uniform.
    """

    def __init__(self, groups: int, part: int, size: int, *, commitment: float = 0.25) -> None:
        if groups < 1 or part < 2:
            raise QuantizerError(f"{groups} groups of {part} dimensions: use at least 1, of at least 2 dimensions.")
        super().__init__(groups * part, (size,) * groups)
        self.part, self.shared = part, VectorQuantizer(part, size, commitment=commitment, cosine=True)
        self.shared.codebook.data = F.normalize(torch.randn(size, part), dim=1)

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        vectors, codes, loss = self.shared.quantize(rows.reshape(-1, self.part))
        return vectors.reshape(rows.shape), codes.reshape(len(rows), -1), loss

    def lookup(self, codes: Tensor) -> Tensor:
        return self.shared.lookup(self.check_codes(codes)[..., None]).flatten(-2)


class LeechSpherical(Quantizer):
    """The nearest of Leech's 196,560 minimal vectors on the unit sphere (arXiv 2512.14697): no parameters, no loss."""

    def __init__(self) -> None:
        super().__init__(LENGTH, BOOKS)

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (N, 24) -> minimal vectors over their length."""
        units = F.normalize(rows, dim=1)
        numbers = nearest_minimal(units.detach())
        codes = torch.stack([numbers // BOOKS[1], numbers % BOOKS[1]], dim=1)
        return straight_through(units, self._vectors(numbers)), codes, rows.new_zeros(())

    def lookup(self, codes: Tensor) -> Tensor:
        codes = self.check_codes(codes)
        return self._vectors(codes[..., 0] * BOOKS[1] + codes[..., 1])

    def _vectors(self, numbers: Tensor) -> Tensor:
        return minimal_vectors().to(numbers.device)[numbers].float() / NORM


@cache
def minimal_vectors() -> Tensor:
    """Leech's minimal vectors in whole numbers, int8 (196560, 24), in the order of their numbers.

    First 24 c + j: codeword c with signs (-1)^c and a 3 of the other sign at j; then 128 o + s: octad o with the
    signs of seven places in s, the eighth such that the minus signs are even; then 4 p + s: pair p with two signs.
    """
    words = golay_code()
    signs = np.repeat(1 - 2 * words, LENGTH, axis=0)
    signs[np.arange(ODD), np.tile(np.arange(LENGTH), WORDS)] *= -3
    minus = np.arange(128)[:, None] >> np.arange(7) & 1
    minus = np.concatenate([minus, minus.sum(1, keepdims=True) % 2], axis=1)
    even = np.zeros((OCTADS, 128, LENGTH), np.int64)
    np.put_along_axis(even, np.broadcast_to(_octads()[:, None], (OCTADS, 128, 8)), 2 - 4 * minus[None], axis=2)
    pairs, corners = np.stack(np.triu_indices(LENGTH, 1), axis=1), np.array([(4, 4), (-4, 4), (4, -4), (-4, -4)])
    two = np.zeros((len(pairs), 4, LENGTH), np.int64)
    np.put_along_axis(two, np.broadcast_to(pairs[:, None], (len(pairs), 4, 2)), corners[None], axis=2)
    all_of_them = np.concatenate([signs, even.reshape(-1, LENGTH), two.reshape(-1, LENGTH)])
    return torch.from_numpy(all_of_them.astype(np.int8))


def nearest_minimal(rows: Tensor) -> Tensor:
    """The numbers, int64 (N,), of the minimal vectors with the largest inner product with rows (N, 24); exact."""
    parts = [_nearest(part) for part in rows.split(ROWS)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64, device=rows.device)


def _nearest(y: Tensor) -> Tensor:
    """The best of each of the three forms, and the best of these; of equal ones the first form."""
    forms = [_best_even(y), _best_pair(y)]
    odd = _best_odd(y, torch.stack([score for score, _ in forms]).amax(0))
    scores, numbers = (torch.stack(each) for each in zip(odd, *forms, strict=True))
    return numbers.gather(0, scores.argmax(0, keepdim=True))[0]


def _best_pair(y: Tensor) -> tuple[Tensor, Tensor]:
    """4 and 4 at the two largest coordinates."""
    size, places = y.abs().topk(2, dim=1)
    places = places.sort(dim=1).values
    i, j = places.unbind(1)
    pair = i * (2 * LENGTH - i - 1) // 2 + j - i - 1
    minus = (y.gather(1, places) < 0).long()
    return 4 * size.sum(1), ODD + EVEN + 4 * pair + minus[:, 0] + 2 * minus[:, 1]


def _best_even(y: Tensor) -> tuple[Tensor, Tensor]:
    """2 at the places of an octad, the signs of y; where the minus signs are odd, the smallest place changes its."""
    octads = torch.from_numpy(_octads()).to(y.device)
    inside = torch.zeros(LENGTH, OCTADS, dtype=y.dtype, device=y.device).scatter(0, octads.T, 1)
    odd = ((y < 0).to(y.dtype) @ inside).remainder(2) > 0
    total = 2 * (y.abs() @ inside)
    score = total.masked_fill(odd, -1)
    best = score.amax(1, keepdim=True)
    row, octad = torch.nonzero(odd & (total > best), as_tuple=True)  # the others cannot win with any change
    score[row, octad] = total[row, octad] - 4 * y.abs()[row[:, None], octads[octad]].amin(1)
    best, octad = score.max(1)
    chosen = y.gather(1, octads[octad])
    minus = (chosen < 0).long()
    change = (minus.sum(1, keepdim=True) % 2) * F.one_hot(chosen.abs().argmin(1), 8)
    minus = (minus + change) % 2
    return best, ODD + 128 * octad + (minus[:, :7] << torch.arange(7, device=y.device)).sum(1)


def _best_odd(y: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    """Signs of a codeword and one place at -3 times its sign, where they could reach ``bound`` (N,)."""
    signs = torch.from_numpy(1 - 2 * golay_code()).to(y.device, y.dtype)
    total = y @ signs.T
    least = (bound - 4 * y.abs().amax(1))[:, None]
    row, word = torch.nonzero(total >= least, as_tuple=True)  # the others cannot win with any place
    smallest, place = (signs[word] * y[row]).min(1)
    found = total[row, word] - 4 * smallest
    score = torch.full_like(bound, -torch.inf).scatter_reduce(0, row, found, "amax")
    wins = found == score[row]
    number = torch.zeros(len(y), dtype=torch.int64, device=y.device).scatter(
        0, row[wins], LENGTH * word[wins] + place[wins]
    )
    return score, number


@cache
def _octads() -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """The places of the 759 codewords of weight 8, (759, 8)."""
    words = golay_code()
    return np.nonzero(words[words.sum(1) == 8])[1].reshape(OCTADS, 8)
