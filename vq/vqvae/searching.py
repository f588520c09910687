"""Search at the encoder of a VQ-VAE: codes of all positions and books together, for the bits and for the picture.

Every quantiser here gives sums of codewords, one of each book, so that a mixture of codes has a mean vector; the
decoder paints it, and the prior, which sees the mean embeddings of the neighbours, says what each code costs there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from core.annealing import Places, Searching, anneal, most_candidates
from core.codec import Image, TesseraError
from vq.prior import REACH, Prior, seen
from vq.vqvae.quantizer import Quantizer

if TYPE_CHECKING:
    from vq.vqvae.codec import VQCodec

SAMPLES = 64  # vectors that show whether a quantiser's vectors are sums


class SearchingCodec(Searching):
    """A codec that spends up to ``effort`` gradient steps on each picture; streams are the plain codec's."""

    codec: VQCodec

    @torch.inference_mode(False)
    def __init__(self, codec: VQCodec, effort: int, weight: float = 1.0) -> None:
        super().__init__(codec, effort, weight)
        self.model = copy.deepcopy(codec.model).eval().requires_grad_(False)
        self.offset, self.tables = codewords(self.model.quantizer, len(codec.codebook_sizes))
        device = self.offset.device
        self.static = [(math.log2(w.sum()) - torch.from_numpy(w).log2()).float().to(device) for w in codec.weights]

    @torch.inference_mode(False)
    def found(self, image: Image) -> bytes:
        x, plain = self.model.planes(image), torch.stack([torch.from_numpy(c) for c in self.codec._codes(image)])
        chosen = plain.to(x.device).permute(0, 2, 3, 1)  # (B, h, w, books)
        places = self._places(x, chosen)
        prior = self.model.prior if self.codec.with_prior(list(plain.numpy())) else None
        height, width = image.shape[:2]

        def parts(shares: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            found = (p.mean(s, table) for p, s, table in zip(places, shares, self.tables, strict=True))
            painted = self.model.decoder((self.offset + sum(found)).permute(0, 3, 1, 2)) + 0.5
            error = (painted.clamp(0, 1) - x)[:, :, :height, :width].square().mean()
            return self._bits(shares, places, prior), error

        with torch.no_grad():
            hard = [F.one_hot(p.start.argmax(-1), p.start.shape[-1]).to(p.start) for p in places]
            bits, error = parts(hard)
        lmb = self.weight * float(bits) / max(float(error), 1e-12)

        def loss(shares: Sequence[Tensor]) -> Tensor:
            bits, error = parts(shares)
            return bits + lmb * error

        picked = anneal([p.start for p in places], loss, self.effort)
        codes = torch.stack([p.code(k) for p, k in zip(places, picked, strict=True)], 1)
        return self.codec.write(list(codes.cpu().numpy()), image.shape)

    @torch.no_grad()
    def _places(self, x: Tensor, chosen: Tensor) -> list[Places]:
        """Candidates of each book, by their distance from what the books before leave over."""
        left = self.model.encoder(x - 0.5).permute(0, 2, 3, 1) - self.offset
        made, most = [], most_candidates(chosen[..., 0].numel())
        for table, codes in zip(self.tables, chosen.unbind(-1), strict=True):
            distances = torch.cdist(left.flatten(0, 2), table).square().view(*codes.shape, -1)
            made.append(Places(distances, codes, most))
            left = left - table[codes]
        return made

    def _bits(self, shares: Sequence[Tensor], places: Sequence[Places], prior: Prior | None) -> Tensor:
        if prior is None:
            pairs = zip(shares, places, self.static, strict=True)
            return torch.stack([(s * p.among(cost)).sum() for s, p, cost in pairs]).sum()
        embeds = [e.weight for e in prior.embed]
        words = [p.mean(s, e[:-1]) for p, s, e in zip(places, shares, embeds, strict=False)]
        framed = torch.stack([_framed(w, e[-1]) for w, e in zip(words, embeds, strict=False)]).sum(0)
        hidden, nats = prior.context(seen(framed, *words[0].shape[1:3])), framed.new_zeros(())
        for book, (share, place) in enumerate(zip(shares, places, strict=True)):
            if book:
                hidden = hidden + prior.current[book - 1](words[book - 1])
            logits = F.log_softmax(prior.heads[book](F.relu(hidden)), -1)
            nats = nats - (share * place.among(logits)).sum()
        return nats / math.log(2)


def codewords(quantizer: Quantizer, books: int) -> tuple[Tensor, list[Tensor]]:
    """Offset (dim,) and tables (K, dim) per book, whose sums are the vectors of codes.

    Raises ``TesseraError`` for a quantiser whose vectors are no such sums.
    """
    sizes, device = quantizer.codebook_sizes[:books], next(quantizer.parameters(), torch.empty(0)).device
    none = torch.zeros(1, len(sizes), dtype=torch.int64, device=device)
    offset, tables = quantizer.lookup(none)[0].detach(), []
    for book, size in enumerate(sizes):
        codes = none.repeat(size, 1)
        codes[:, book] = torch.arange(size, device=device)
        tables.append((quantizer.lookup(codes) - offset).detach())
    draw = torch.Generator().manual_seed(0)
    some = torch.stack([torch.randint(size, (SAMPLES,), generator=draw) for size in sizes], 1).to(device)
    vectors = quantizer.lookup(some)
    summed = offset + sum(table[column] for table, column in zip(tables, some.unbind(1), strict=True))
    if not torch.allclose(vectors, summed, rtol=1e-3, atol=1e-4 * float(vectors.abs().max())):
        raise TesseraError(
            "the vectors of this quantiser are no sums of codewords, which a search needs: leave it out."
        )
    return offset, tables


def _framed(words: Tensor, outside: Tensor) -> Tensor:
    """Embeddings (B, h, w, c) with those of 'outside' above and beside them, as far as is seen."""
    b, h, w, _ = words.shape
    sides = outside.expand(b, h, REACH, -1)
    top = outside.expand(b, REACH, w + 2 * REACH, -1)
    return torch.cat([top, torch.cat([sides, words, sides], 2)], 1)
