"""Annealed choice: one of several candidates at each of many places, all places together, by gradient.

    start = opening(distances, chosen)            # logits (..., M): the encoder's own choice first, near ones likely
    picked = anneal(start, loss, steps)           # int64 (...) per tensor of logits

A place stands for a mixture of its candidates, in shares that steepen until one is left: the distribution of stochastic
Gumbel annealing (Yang, Bamler, Mandt, NeurIPS 2020, arXiv 2006.04240) with its mean in the place of its samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from core.codec import Codec, Image, TesseraError, check_effort

RATE = 0.3  # of Adam, on logits; falls to a hundredth along a cosine
SOFT, HARD = 1.0, 1000.0  # factor of the logits at the first and at the last step
CHECKS = 10  # looks at the hard choice, evenly spread over the steps
PATIENCE = 4  # looks without a gain that end the search, from half of the steps on
SPREAD, LEAST, MARGIN = 3.0, -30.0, 0.01  # opening logits: of the usual second candidate, the lowest, the lead
CELLS = 2**20  # candidates of all places together

Loss = Callable[[Sequence[Tensor]], Tensor]  # shares (..., M) of each group of places -> scalar, soft or hard


class Places:
    """The candidates at some places: ``index`` int64 (..., M) into K codes, or None where all codes are candidates."""

    def __init__(self, distances: Tensor, chosen: Tensor, most: int) -> None:
        """``distances`` (..., K) of the codes from what is coded, ``chosen`` int64 (...) by the plain encoder."""
        opened = opening(distances, chosen)
        self.index: Tensor | None = None
        if most < opened.shape[-1]:
            opened, self.index = opened.topk(most, dim=-1)
        self.start = opened

    def mean(self, shares: Tensor, table: Tensor) -> Tensor:
        """The mixture (..., d) of the rows of a table (K, d)."""
        if self.index is None:
            return shares @ table
        mixed: Tensor = (shares[..., None, :] @ table[self.index])[..., 0, :]
        return mixed

    def among(self, values: Tensor) -> Tensor:
        """Values of all codes, (..., K) or (K,), at the candidates: (..., M) or what broadcasts to it."""
        if self.index is None:
            return values
        return values[self.index] if values.ndim == 1 else values.gather(-1, self.index)

    def code(self, picked: Tensor) -> Tensor:
        """The codes (...) of picked candidates (...)."""
        return picked if self.index is None else self.index.gather(-1, picked[..., None])[..., 0]


def most_candidates(places: int) -> int:
    """How many candidates each of so many places may have: 4 or more, so that memory stays bounded."""
    return max(4, CELLS // max(1, places))


def opening(distances: Tensor, chosen: Tensor) -> Tensor:
    """Logits (..., M) of squared distances (..., M): ``chosen`` (...) leads, and the usual second has -``SPREAD``."""
    beyond = (distances - distances.gather(-1, chosen[..., None])).clamp(min=0)
    scale = beyond.topk(2, largest=False).values[..., 1].median().clamp(min=1e-12)
    logits = (-SPREAD * beyond / scale - MARGIN).clamp(min=LEAST)
    return logits.scatter(-1, chosen[..., None], 0.0)


def anneal(start: Sequence[Tensor], loss: Loss, steps: int) -> list[Tensor]:
    """The best hard choice seen, int64 (...) per tensor of ``start``: never one of a higher loss than the opening's.

    ``loss`` must not depend on anything random; numbers that are not finite end the search.
    """
    with torch.inference_mode(False), torch.enable_grad():
        variables = [logits.detach().clone().requires_grad_() for logits in start]
        best, cost = _hard(variables, loss)
        optimiser = torch.optim.Adam(variables, lr=RATE)
        looks, vain = {math.ceil(steps * i / CHECKS) for i in range(1, CHECKS + 1)}, 0
        for step in range(steps):
            steepness = SOFT * (HARD / SOFT) ** (step / max(steps - 1, 1))
            optimiser.param_groups[0]["lr"] = RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            now = loss([torch.softmax(steepness * v, -1) for v in variables])
            if not torch.isfinite(now):
                break
            for v, gradient in zip(variables, torch.autograd.grad(now, variables), strict=True):
                v.grad = gradient
            optimiser.step()
            if step + 1 in looks:
                picked, price = _hard(variables, loss)
                better = price < cost
                vain = 0 if better or step < steps // 2 else vain + 1
                best, cost = (picked, price) if better else (best, cost)
                if vain == PATIENCE:
                    break
    return best


@torch.no_grad()
def _hard(variables: Sequence[Tensor], loss: Loss) -> tuple[list[Tensor], float]:
    """The likeliest candidates, and what they cost."""
    picked = [v.argmax(-1) for v in variables]
    return picked, float(loss([one_hot(p, v.shape[-1]).to(v) for p, v in zip(picked, variables, strict=True)]))


class Searching:
    """Base of codecs that search: ``found`` in a subclass; a stream is never worse than the plain one.

    ``weight`` is how many per cent of the rate a per cent of the distortion is worth, around the plain stream of each
    picture: lambda is ``weight`` x its bits / its distortion.
    """

    def __init__(self, codec: Codec, effort: int, weight: float = 1.0) -> None:
        check_effort(effort, least=1)
        if not (math.isfinite(weight) and weight > 0):
            raise TesseraError(f"weight={weight} of a search must be positive and finite.")
        self.codec, self.effort, self.weight = codec, effort, weight

    def found(self, image: Image) -> bytes | None:
        """The stream that the search found, if it found any."""
        raise NotImplementedError(f"{type(self).__name__} defines no search")

    def distortion(self, image: Image, decoded: Image) -> float:
        """The distortion that the search lowers, of 8-bit pictures: here the squared error."""
        error: float = ((image.astype("float64") - decoded) ** 2).mean()
        return error

    def compress(self, image: Image) -> bytes:
        plain = self.codec.compress(image)
        found = self.found(image)
        if found is None or found == plain:
            return plain
        before = self.distortion(image, self.codec.decompress(plain))
        after = self.distortion(image, self.codec.decompress(found))
        gained = len(found) - len(plain) + self.weight * len(plain) * (after / before - 1 if before else 0.0)
        return found if gained < 0 and (before or not after) else plain

    def decompress(self, stream: bytes) -> Image:
        return self.codec.decompress(stream)

    def payload_bits(self, stream: bytes) -> int:
        bits: int = self.codec.payload_bits(stream)  # type: ignore[attr-defined]  # all that search have it
        return bits
