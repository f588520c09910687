"""Bits back with asymmetric numeral systems, over a hierarchy of latents: lossless, at a net cost of the negative ELBO.

The encoder takes the latents off a stack of bits as if they were coded in it under the posterior, puts the data on it
under the likelihood and the latents under their priors; the decoder undoes every step and gets the bits back. The
first bits must come from somewhere: a random message, which the decoder knows too and checks in the end.

    top-down (HiLLoC; Townsend et al., ICLR 2020): pop z_1, z_2 | z_1, ...;  push x;  push ..., z_2, z_1
    bottom-up (Bit-Swap; Kingma, Abbeel, Ho, ICML 2019): pop z_L | x; push x; pop z_{L-1} | z_L; push z_L; ...
    levels-first (BB-ANS; Townsend, Bird, Barber, ICLR 2019): pop z_L | x; pop z_{L-1} | z_L; ...; push x; push z_L; ...

Level 0 is the top, level L - 1 the one next to the data. Top-down and levels-first order need as many first bits as all
levels hold, bottom-up order about one level's. The last two work only where p(x | z) and p(z_l | above) look one level
up and posteriors one level down, and both work there at the same net cost; posteriors that look at the data and at the
levels above, as a ResNet VAE's, allow the top-down order only.

A latent is one of 2^bits bins (``rec.bins``): around its prior in top-down order, around a normal that the model states
beforehand in the others. Encoder and decoder must find the same numbers for priors, posteriors and likelihoods, to the
last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import constriction
import numpy as np
from numpy.typing import NDArray

from core.backends import table_model
from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.frequencies import PRECISION, Tables
from rec.bins import Bins, EqualMass, Grid, masses, parts
from rec.gaussian import Gaussian, standardised
from rec.randomness import Key, words

_FAMILY = constriction.stream.model.Categorical(perfect=False)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
BITS = 10  # of a latent
WORD = 32


class Hierarchy(Protocol):
    """A latent-variable model as bits-back coding sees it; tensors are flat, in an order of the model's choice.

    ``above`` and ``latents`` are the values of the levels from the top, float64 (n_l,) each; in any order but the
    top-down one, only the last of them is known, and the list has this one entry.
    """

    depth: int
    parts: int  # in which the data are coded one after the other, such as colours; 1 when all at once

    def prior(self, level: int, above: Sequence[Floats]) -> Gaussian:
        """p(z_level | above): loc and scale (n_level,)."""

    def likelihood(self, part: int, latents: Sequence[Floats], known: Sequence[Ints]) -> tuple[Ints, Tables]:
        """p(x_part | latents, earlier parts): the table of each symbol, int64 (n,), and the tables."""


class TopDown(Hierarchy, Protocol):
    """A model for the top-down order."""

    def posterior(self, level: int, x: Sequence[Ints], above: Sequence[Floats]) -> Gaussian:
        """q(z_level | x, above)."""


class BottomUp(Hierarchy, Protocol):
    """A model for the bottom-up and the levels-first order."""

    def recognise(self, level: int, below: Sequence[Ints] | Floats) -> Gaussian:
        """q(z_level | level below): the data, part by part, for the last level, else values of level + 1."""

    def marginal(self, level: int) -> Gaussian:
        """The normal around which level ``level`` is cut into bins."""


@dataclass(frozen=True)
class Packed:
    """A coded sequence of data.

    ``net_bits`` has each one's growth of the stack (the negative ELBO, up to chance); ``initial_bits`` is what the
    first of all took off the stack before it put anything there, rounded up to words of 32 bits.
    """

    payload: bytes
    net_bits: tuple[float, ...]
    initial_bits: int


class Stack:
    """A stack of symbols in a message of 32-bit words; ``least`` is the fewest words that were ever left alone."""

    def __init__(self, message: NDArray[np.uint32]) -> None:
        self._ans = constriction.stream.stack.AnsCoder(message)
        self.least = len(message)
        self._note()

    @property
    def bits(self) -> float:
        """How full it is."""
        whole, state = self._ans.pos()
        return float(WORD * whole + math.log2(max(state, 1)))

    def pop_bins(self, posterior: Gaussian, base: Gaussian, bits: int) -> Ints:
        """Bins of latents, int64 (n,), taken off under a posterior."""
        loc, scale = standardised(posterior, base)
        found = [self._ans.decode(_FAMILY, masses(loc[part], scale[part], bits)) for part in parts(len(loc), bits)]
        self._note()
        return np.concatenate(found).astype(np.int64)

    def push_bins(self, bins: Ints, posterior: Gaussian, base: Gaussian, bits: int) -> None:
        """Mirror of ``pop_bins``."""
        loc, scale = standardised(posterior, base)
        for part in reversed(parts(len(loc), bits)):
            self._ans.encode_reverse(bins[part].astype(np.int32), _FAMILY, masses(loc[part], scale[part], bits))

    def pop_uniform(self, count: int, bits: int) -> Ints:
        """``count`` bins of equal mass."""
        found: Ints = self._ans.decode(constriction.stream.model.Uniform(1 << bits), count).astype(np.int64)
        self._note()
        return found

    def push_uniform(self, bins: Ints, bits: int) -> None:
        """Mirror of ``pop_uniform``."""
        self._ans.encode_reverse(bins.astype(np.int32), constriction.stream.model.Uniform(1 << bits))

    def pop_normals(self, loc: Floats, scale: Floats, least: int, most: int) -> Ints:
        """Whole numbers from ``least`` to ``most``, int64 (n,), taken off under rounded normals."""
        family = constriction.stream.model.QuantizedGaussian(least, most)
        found: Ints = self._ans.decode(family, loc, scale).astype(np.int64)
        self._note()
        return found

    def push_normals(self, numbers: Ints, loc: Floats, scale: Floats, least: int, most: int) -> None:
        """Mirror of ``pop_normals``."""
        family = constriction.stream.model.QuantizedGaussian(least, most)
        self._ans.encode_reverse(numbers.astype(np.int32), family, loc, scale)

    def pop(self, index: Ints, tables: Tables) -> Ints:
        """Symbols, int64 in the shape of ``index``, which names the table of each."""
        out = np.zeros(len(index), dtype=np.int64)
        for table, places in _groups(index):
            if (model := table_model(tables, table)) is not None:
                out[places] = self._ans.decode(model, len(places))
            out[places] += tables.offsets[table]
        self._note()
        return out

    def push(self, symbols: Ints, index: Ints, tables: Tables) -> None:
        """Mirror of ``pop``."""
        for table, places in reversed(_groups(index)):
            entries = symbols[places] - tables.offsets[table]
            if entries.min() < 0 or entries.max() >= tables.widths[table]:
                raise TesseraError("bits-back coding has no escape: a symbol is outside the table of its likelihood.")
            if (model := table_model(tables, table)) is not None:
                self._ans.encode_reverse(entries.astype(np.int32), model)

    def words(self) -> NDArray[np.uint32]:
        """All that is on it."""
        found: NDArray[np.uint32] = self._ans.get_compressed()
        return found

    def _note(self) -> None:
        self.least = min(self.least, self._ans.pos()[0])


@dataclass(frozen=True)
class BitsBack:
    """Bits-back coding of data with one model; ``order`` is 'top_down', 'bottom_up' or 'levels_first'.

    ``bits`` (1 to 16) are those of a latent's bin, of equal mass or on a ``grid`` of equal width; ``seed`` names the
    random message that the first bits come from.
    """

    model: TopDown | BottomUp
    order: str = "top_down"
    bits: int = BITS
    seed: int = 42
    grid: bool = False

    def __post_init__(self) -> None:
        if self.order not in _ORDERS:
            raise TesseraError(f"order={self.order} of bits-back coding must be one of {', '.join(_ORDERS)}.")
        if not 1 <= self.bits <= 16:
            raise TesseraError(f"bits={self.bits} of bits-back coding must be from 1 to 16.")

    @property
    def bins(self) -> Bins:
        """What latents are cut into."""
        return Grid(self.bits) if self.grid else EqualMass(self.bits)

    def encode(self, data: Sequence[Sequence[Ints]], latents: int) -> Packed:
        """Code a sequence of data, each a list of parts of whole numbers, int64 (n,), of ``latents`` latents each.

        They go on one stack, so that only the first pays for its first bits.
        """
        push = _ORDERS[self.order][0]
        stack = Stack(_message(self.seed, latents * PRECISION // WORD + 8)[::-1])
        full, net, first = len(stack.words()), [], 0
        for x in data:
            start = stack.bits
            push(self.model, stack, x, self.bins)
            net.append(stack.bits - start)
            first = first or WORD * (full - stack.least)
        return Packed(stack.words()[stack.least :].astype("<u4").tobytes(), tuple(net), first)

    def decode(self, payload: bytes, count: int) -> list[list[Ints]]:
        """The data of ``encode``; ``BitstreamError`` unless what is left in the end is the message of the seed."""
        if len(payload) % 4 or not payload:
            raise BitstreamError("the stream is damaged: it does not consist of whole words")
        taken = np.frombuffer(payload, dtype="<u4").astype(np.uint32)
        if taken[-1] == 0:
            raise BitstreamError("the stream is damaged: it ends in an empty word")
        stack = Stack(taken)
        found = [_ORDERS[self.order][1](self.model, stack, self.bins) for _ in range(count)][::-1]
        left = stack.words()
        if not np.array_equal(left[::-1], _message(self.seed, len(left))):
            raise BitstreamError(
                "the stream is damaged, or of another seed or model: its first bits are not found again"
            )
        return found


def _push_top_down(model: TopDown, stack: Stack, x: Sequence[Ints], bins: Bins) -> None:
    values: list[Floats] = []
    found: list[tuple[Ints, Gaussian]] = []
    for level in range(model.depth):
        prior = model.prior(level, values)
        found.append((bins.pop(stack, model.posterior(level, x, values), prior), prior))
        values.append(bins.values(*found[level]))
    _push_data(model, stack, x, values)
    for chosen, prior in reversed(found):
        bins.push_base(stack, chosen, prior)


def _pop_top_down(model: TopDown, stack: Stack, bins: Bins) -> list[Ints]:
    values: list[Floats] = []
    found: list[tuple[Ints, Gaussian]] = []
    for level in range(model.depth):
        prior = model.prior(level, values)
        found.append((bins.pop_base(stack, prior), prior))
        values.append(bins.values(*found[level]))
    x = _pop_data(model, stack, values)
    for level in reversed(range(model.depth)):
        chosen, prior = found[level]
        bins.push(stack, chosen, model.posterior(level, x, values[:level]), prior)
    return x


def _push_bottom_up(model: BottomUp, stack: Stack, x: Sequence[Ints], bins: Bins) -> None:
    below: Any = x
    last: Ints | None = None
    for level in reversed(range(model.depth)):
        base = model.marginal(level)
        above = bins.pop(stack, model.recognise(level, below), base)
        values = bins.values(above, base)
        if last is None:
            _push_data(model, stack, x, [values])
        else:
            bins.push(stack, last, model.prior(level + 1, [values]), model.marginal(level + 1))
        last, below = above, values
    if last is not None:
        bins.push(stack, last, model.prior(0, []), model.marginal(0))


def _pop_bottom_up(model: BottomUp, stack: Stack, bins: Bins) -> list[Ints]:
    base = model.marginal(0)
    here = bins.pop(stack, model.prior(0, []), base)
    for level in range(model.depth - 1):
        values, lower = bins.values(here, base), model.marginal(level + 1)
        below = bins.pop(stack, model.prior(level + 1, [values]), lower)
        bins.push(stack, here, model.recognise(level, bins.values(below, lower)), base)
        here, base = below, lower
    x = _pop_data(model, stack, [bins.values(here, base)])
    bins.push(stack, here, model.recognise(model.depth - 1, x), base)
    return x


def _push_levels_first(model: BottomUp, stack: Stack, x: Sequence[Ints], bins: Bins) -> None:
    below: Any = x
    found: list[tuple[Ints, Gaussian]] = []  # from the data up
    for level in reversed(range(model.depth)):
        base = model.marginal(level)
        found.append((bins.pop(stack, model.recognise(level, below), base), base))
        below = bins.values(*found[-1])
    _push_data(model, stack, x, [bins.values(*found[0])])
    for level, (chosen, base) in zip(reversed(range(model.depth)), found, strict=True):
        above = [bins.values(*found[model.depth - level])] if level else []
        bins.push(stack, chosen, model.prior(level, above), base)


def _pop_levels_first(model: BottomUp, stack: Stack, bins: Bins) -> list[Ints]:
    found: list[tuple[Ints, Gaussian]] = []  # from the top down
    values: list[Floats] = []
    for level in range(model.depth):
        base = model.marginal(level)
        found.append((bins.pop(stack, model.prior(level, values[-1:]), base), base))
        values.append(bins.values(*found[level]))
    x = _pop_data(model, stack, values[-1:])
    for level, (chosen, base) in enumerate(found):
        below: Any = values[level + 1] if level + 1 < model.depth else x
        bins.push(stack, chosen, model.recognise(level, below), base)
    return x


_ORDERS: dict[str, tuple[Callable[..., None], Callable[..., list[Ints]]]] = {
    "top_down": (_push_top_down, _pop_top_down),
    "bottom_up": (_push_bottom_up, _pop_bottom_up),
    "levels_first": (_push_levels_first, _pop_levels_first),
}


def _push_data(model: Hierarchy, stack: Stack, x: Sequence[Ints], values: Sequence[Floats]) -> None:
    for part in reversed(range(model.parts)):
        stack.push(x[part], *model.likelihood(part, values, x[:part]))


def _pop_data(model: Hierarchy, stack: Stack, values: Sequence[Floats]) -> list[Ints]:
    known: list[Ints] = []
    for part in range(model.parts):
        known.append(stack.pop(*model.likelihood(part, values, known)))
    return known


def _groups(index: Ints) -> list[tuple[int, Ints]]:
    """(table, places of its symbols), ascending."""
    order = np.argsort(index, kind="stable")
    used, starts = np.unique(index[order], return_index=True)
    return list(zip(used.tolist(), np.split(order, starts[1:]), strict=True))


def _message(seed: int, count: int) -> NDArray[np.uint32]:
    """The random message, its top word first; that one is not 0, which the stack does not allow."""
    message = words(Key(seed), 0, count).copy()
    message[0] |= 1
    return message
