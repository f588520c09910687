"""Quantisers with a learned codebook: by gradient, by moving averages, under an entropy constraint, and SimVQ.

Statistics are summed over the processes that train together, and whatever is drawn at random comes from rank 0, so
that codebooks stay equal on all ranks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.parallel import all_sum, broadcast, world_size
from core.registry import unknown
from vq.search import nearest
from vq.vqvae.quantizer import Quantizer, rotated, straight_through

INITS = ("kmeans", "uniform")
EPS = 1e-5  # of the Laplace smoothing of counts
YOUNG = 0.002  # of an even share of uses, which codes of a k-means start have: unused ones are revived within steps
SLOW = 64  # one code in this many, and one more, may be revived in a step


class VectorQuantizer(Quantizer):
    """A codebook learned by gradient (van den Oord et al., arXiv 1711.00937, equation 3).

    ``init``: 'uniform' in (-1/K, 1/K) as published, or 'kmeans' on the first training batch. ``revive``: a code whose
    moving average of uses falls below this share of the mean over codes is moved to a random vector of the
    batch; 0 never. ``cosine``: vectors and codes are on the unit sphere. ``rotation``: the rotation trick instead
    of the straight-through gradient.
    """

    def __init__(
        self,
        dim: int,
        size: int,
        *,
        init: str = "uniform",
        revive: float = 0.0,
        commitment: float = 0.25,
        decay: float = 0.99,
        cosine: bool = False,
        rotation: bool = False,
    ) -> None:
        super().__init__(dim, (size,))
        if init not in INITS:
            raise unknown("start of a codebook", init, INITS)
        self.size, self.revive, self.commitment, self.decay = size, revive, commitment, decay
        self.cosine, self.rotation = cosine, rotation
        self._register((torch.rand(size, dim) * 2 - 1) / size)
        self.uses: Tensor
        self.ready: Tensor
        self.register_buffer("uses", torch.ones(size))  # moving average of uses in a step, over all ranks
        self.register_buffer("ready", torch.tensor(init == "uniform"))

    def _register(self, start: Tensor) -> None:
        self.codebook: Tensor = nn.Parameter(start)

    def vectors(self) -> Tensor:
        """The codes' vectors, (K, dim)."""
        return self._space(self.codebook)

    def _space(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=1) if self.cosine else rows

    def search(self, rows: Tensor) -> Tensor:
        """The best code, int64 (N,), of each row (N, dim)."""
        return nearest(rows, self.vectors().detach())

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Quantizer.quantize``; in training the codebook's own state moves too."""
        rows = self._space(rows)
        fixed = rows.detach()
        if self.training:
            self._start(fixed)
            self._revive(fixed)
        codes = self.search(fixed)
        chosen = F.embedding(codes, self.vectors())
        loss = self._loss(rows, chosen)
        if self.training:
            self._learn(fixed, codes)
        way = rotated if self.rotation else straight_through
        return way(rows, chosen.detach()), codes[:, None], loss

    def lookup(self, codes: Tensor) -> Tensor:
        return self.vectors().detach()[self.check_codes(codes)[..., 0]]

    def _loss(self, rows: Tensor, chosen: Tensor) -> Tensor:
        """Codes to vectors, and vectors to codes at the weight of the commitment."""
        return F.mse_loss(chosen, rows.detach()) + self.commitment * F.mse_loss(rows, chosen.detach())

    @torch.no_grad()
    def _start(self, rows: Tensor) -> None:
        if bool(self.ready):
            return
        centres = broadcast(self._space(kmeans(rows, self.size)))
        everywhere = torch.arange(self.size, device=rows.device)
        self._place(everywhere, centres, YOUNG * len(rows) * world_size() / self.size)
        self.ready.fill_(True)

    @torch.no_grad()
    def _revive(self, rows: Tensor) -> None:
        """Move the least used of the dead codes to random vectors, a few in each step.

        Vectors far from all codes would look better, but a decoder that meets many of those at once breaks.
        """
        mean = float(self.uses.mean())
        dead = int((self.uses < self.revive * mean).sum())
        if dead:  # on all ranks or on none: the averages are equal on all
            worst = self.uses.topk(min(dead, 1 + self.size // SLOW), largest=False).indices
            picked = rows[torch.randint(len(rows), (len(worst),), device=rows.device)]
            self._place(worst, broadcast(picked), 2 * self.revive * mean)

    def _place(self, which: Tensor, vectors: Tensor, uses: float) -> None:
        """Move codes (their indices) to vectors (n, dim), as if each had had this many uses in a step, all there."""
        self.codebook[which] = vectors
        self.uses[which] = uses

    @torch.no_grad()
    def _learn(self, rows: Tensor, codes: Tensor) -> None:
        counts = all_sum(torch.bincount(codes, minlength=self.size).to(self.uses.dtype))
        self.uses.lerp_(counts, 1 - self.decay)


class EMAQuantizer(VectorQuantizer):
    """A codebook of moving averages (arXiv 1711.00937, appendix A.1); ``codebook = sums / uses``, smoothed."""

    def _register(self, start: Tensor) -> None:
        self.sums: Tensor
        self.register_buffer("codebook", start)
        self.register_buffer("sums", start.clone())

    def _loss(self, rows: Tensor, chosen: Tensor) -> Tensor:
        return self.commitment * F.mse_loss(rows, chosen.detach())

    def _place(self, which: Tensor, vectors: Tensor, uses: float) -> None:
        super()._place(which, vectors, uses)
        self.sums[which] = vectors * uses

    @torch.no_grad()
    def _learn(self, rows: Tensor, codes: Tensor) -> None:
        super()._learn(rows, codes)
        sums = all_sum(torch.zeros_like(self.sums).index_add_(0, codes, rows))
        self.sums.lerp_(sums, 1 - self.decay)
        total = self.uses.sum()
        smoothed = (self.uses + EPS) / (total + self.size * EPS) * total
        self.codebook.copy_(self._space(self.sums / smoothed[:, None]))


class EntropyConstrainedQuantizer(EMAQuantizer):
    """Codes that minimise squared distance plus ``rate_weight`` times their bits (Chou, Lookabaugh, Gray, 1989).

    A code's bits are those of its share of the moving average of uses, so rarely used codes become dearer and die;
    dead ones stay codable, at the bits of half a use. The squared distance is a sum over dimensions, with latents
    scaled to unit variance (moving average), or the encoder would buy rate by growing its latents.
    """

    def __init__(self, dim: int, size: int, *, rate_weight: float, init: str = "kmeans", **options: float) -> None:
        super().__init__(dim, size, init=init, **options)  # type: ignore[arg-type]
        self.rate_weight = rate_weight
        self.variance: Tensor
        self.register_buffer("variance", torch.zeros(()))  # of a latent's dimension, moving average over all ranks

    def search(self, rows: Tensor) -> Tensor:
        bits = math.log2(math.e) * (self.uses.add(0.5).sum().log() - self.uses.add(0.5).log())
        return nearest(rows, self.codebook, self.rate_weight * self.variance * bits)

    @torch.no_grad()
    def _start(self, rows: Tensor) -> None:
        super()._start(rows)
        moments = all_sum(torch.stack([rows.mean(0), rows.square().mean(0)])) / world_size()
        variance = (moments[1] - moments[0].square()).mean()
        first = self.variance == 0
        self.variance.copy_(torch.where(first, variance, self.variance.lerp(variance, 1 - self.decay)))


class SimVQ(VectorQuantizer):
    """A frozen random codebook seen through one learned linear map, so that all codes move together (arXiv 2411.02038).

    Nothing is initialised from data or revived.
    """

    def __init__(self, dim: int, size: int, *, commitment: float = 0.25, rotation: bool = False) -> None:
        super().__init__(dim, size, commitment=commitment, rotation=rotation)
        self.map = nn.Linear(dim, dim, bias=False)

    def _register(self, start: Tensor) -> None:
        self.register_buffer("codebook", torch.randn_like(start) * start.shape[1] ** -0.5)

    def vectors(self) -> Tensor:
        mapped: Tensor = self.map(self.codebook)
        return mapped


@torch.no_grad()
def kmeans(rows: Tensor, size: int, rounds: int = 10) -> Tensor:
    """Centres (size, d) of rows (N, d) by Lloyd's iteration from random rows; empty cells restart at strays."""
    order = torch.randperm(len(rows), device=rows.device)
    centres = rows[order.repeat(-(-size // len(rows)))[:size]].clone()
    for _ in range(rounds):
        codes = nearest(rows, centres)
        counts = torch.bincount(codes, minlength=size).to(rows.dtype)
        sums = torch.zeros_like(centres).index_add_(0, codes, rows)
        empty = counts == 0
        centres = sums / counts.clamp(min=1)[:, None]
        if bool(empty.any()):
            centres[empty] = strays(rows, centres[~empty], int(empty.sum()))
    return centres


def strays(rows: Tensor, codebook: Tensor, count: int) -> Tensor:
    """Rows (count, d) drawn in proportion to their squared distance from the codebook.

    Most patches of a picture may be the same background: uniform draws would give an empty cell to it again and again.
    """
    errors = (rows - codebook[nearest(rows, codebook)]).square().sum(1) + 1e-12
    return rows[torch.multinomial(errors, count, replacement=True)]
