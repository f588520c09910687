"""Base of the quantisers: vectors in, whole numbers and the nearest allowed vectors out.

    out = quantizer(z)                      # z: float (..., dim)
    out.quantized, out.codes, out.loss, out.stats
    quantizer.lookup(out.codes)             # the same vectors, from the codes alone

Codes are int64 (..., books); book b holds values in ``[0, codebook_sizes[b])``. A plain codebook is one book, residual
and product quantisers have one per part, and scalar quantisers group their dimensions so that no book is huge.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.codec import TesseraError

SAMPLES = 64  # vectors that show whether a quantiser's vectors are sums


class QuantizerError(TesseraError):
    """A quantiser that cannot be built as asked, or vectors and codes that it cannot take."""


class Quantized(NamedTuple):
    """What a quantiser makes of vectors z (..., dim)."""

    quantized: Tensor  # (..., dim), with a gradient to z
    codes: Tensor  # int64 (..., books)
    loss: Tensor  # scalar to add to the model's loss
    stats: dict[str, Tensor]  # of this batch on this process, per book: 'perplexity' and 'used', (books,)


class Quantizer(nn.Module):
    """Base of all quantisers: checks, shapes and statistics here, ``quantize`` and ``lookup`` in the subclass."""

    def __init__(self, dim: int, codebook_sizes: tuple[int, ...]) -> None:
        super().__init__()
        if dim < 1:
            raise QuantizerError(f"vectors of {dim} dimensions cannot be quantised: use at least 1.")
        small = [size for size in codebook_sizes if size < 2]
        if small or not codebook_sizes:
            raise QuantizerError(f"a codebook of {small[0] if small else 0} codes carries nothing: use at least 2.")
        self.dim, self._sizes = dim, tuple(codebook_sizes)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """The number of codes in each book."""
        return self._sizes

    def forward(self, z: Tensor) -> Quantized:
        """Quantise z (..., dim) in float32, whatever autocast says; ``QuantizerError`` for NaN or infinity."""
        if z.shape[-1] != self.dim:
            raise QuantizerError(f"this quantiser takes vectors of {self.dim} dimensions, not {z.shape[-1]}.")
        with torch.autocast(z.device.type, enabled=False):
            rows = z.reshape(-1, self.dim).float()
            if not bool(torch.isfinite(rows).all()):
                raise QuantizerError(
                    "the latents are not finite: the weights are damaged or training diverged; use a lower lr."
                )
            vectors, codes, loss = self.quantize(rows)
            stats = usage(codes, self.codebook_sizes[: codes.shape[1]])
        return Quantized(vectors.view(z.shape), codes.view(*z.shape[:-1], -1), loss, stats)

    def quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Finite rows (N, dim) -> quantised rows (N, dim) with a gradient, codes (N, books), loss (scalar)."""
        raise NotImplementedError

    def lookup(self, codes: Tensor) -> Tensor:
        """The vectors (..., dim) of codes (..., books), without gradient; ``QuantizerError`` for impossible codes."""
        raise NotImplementedError

    def check_codes(self, codes: Tensor) -> Tensor:
        """Codes as int64, if they have an integer type, a column per book, and values inside the books."""
        return self.checked(codes, self.codebook_sizes)

    @staticmethod
    def checked(codes: Tensor, books: tuple[int, ...]) -> Tensor:
        """Codes (..., books) as int64; ``QuantizerError`` unless they are integers inside books of these sizes."""
        sizes = torch.tensor(books, device=codes.device)
        if codes.is_floating_point() or codes.shape[-1:] != sizes.shape:
            raise QuantizerError(f"codes are integers (..., {len(sizes)}), not {codes.dtype} {tuple(codes.shape)}.")
        if codes.numel() and bool(((codes < 0) | (codes >= sizes)).any()):
            raise QuantizerError(f"codes are outside their books of {', '.join(map(str, books))} codes.")
        return codes.long()


def usage(codes: Tensor, sizes: tuple[int, ...]) -> dict[str, Tensor]:
    """'perplexity' (two to the entropy) and 'used' (distinct codes) per book of codes (N, books)."""
    counts = [torch.bincount(codes[:, b], minlength=size).double() for b, size in enumerate(sizes)]
    shares = [c / c.sum().clamp(min=1) for c in counts]
    entropies = torch.stack([-torch.xlogy(p, p).sum() for p in shares])
    return {"perplexity": entropies.exp().float(), "used": torch.stack([(c > 0).sum() for c in counts])}


def codewords(quantizer: Quantizer, books: int) -> tuple[Tensor, list[Tensor]]:
    """Offset (dim,) and tables (K, dim) per book, whose sums are the vectors of codes.

    Raises ``QuantizerError`` for a quantiser whose vectors are no such sums.
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
        raise QuantizerError(
            "the vectors of this quantiser are no sums of codewords, which searches and hyperpriors need: do without."
        )
    return offset, tables


def straight_through(z: Tensor, quantized: Tensor) -> Tensor:
    """The quantised vectors, with the gradient of the identity (van den Oord et al., arXiv 1711.00937)."""
    out: Tensor = z + (quantized - z).detach()
    return out


def rotated(z: Tensor, quantized: Tensor) -> Tensor:
    """The quantised vectors, with the gradient of the rotation and scaling that take each z to its vector.

    The rotation trick (Fifty et al., arXiv 2410.06424, section 4.2): R = I - 2 r r' + 2 q e' with unit e = z, q and r
    = e + q, all constants for the gradient. Rows (N, d); vectors of length zero pass as they are.
    """
    with torch.no_grad():
        lengths = z.norm(dim=1, keepdim=True).clamp(min=1e-6)
        e, q = z / lengths, F.normalize(quantized, dim=1, eps=1e-6)
        r = F.normalize(e + q, dim=1, eps=1e-6)
        scale = quantized.norm(dim=1, keepdim=True) / lengths
    turned = z - 2 * (z * r).sum(1, keepdim=True) * r + 2 * (z * e).sum(1, keepdim=True) * q
    out: Tensor = turned * scale
    return out
