"""Base of the coders of iREC: how many steps a block takes, which schedule, and how both travel.

The symbols of a block are the code of its schedule, then one number for each step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.entropy import Decoder, Encoder
from rec.coders.contract import Symbols
from rec.coders.irec.schedule import CODES, POWER_LAW, Schedule, choose, losses, make_schedule
from rec.gaussian import Floats
from rec.side_information import (
    LIMIT,
    coarse,
    level,
    read_codes,
    read_steps,
    steps_at,
    write_codes,
    write_steps,
)

SCHEDULES = ("equal_kl", "power_law")


@dataclass(frozen=True)
class Stepwise:
    """A coder that spends the KL of a block in steps of about ``kl_per_partition`` nats.

    ``schedule`` is power_law, the published one with K = ceil(KL / kl_per_partition) steps, or equal_kl, which names a
    schedule for each block and rounds K to a number that is cheap to tell.
    """

    kl_per_partition: float = 3.0
    schedule: str = "equal_kl"

    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.kl_per_partition) and self.kl_per_partition > 0):
            raise TesseraError(f"kl_per_partition={self.kl_per_partition} must be above 0 nats.")
        if self.schedule not in SCHEDULES:
            raise TesseraError(f"schedule={self.schedule} must be one of {', '.join(SCHEDULES)}.")

    @property
    def spare_nats(self) -> float:
        """By how much the last step may exceed the others."""
        return 0.0

    def steps(self, nats: float) -> int:
        """The number of steps for a KL in nats; ``TesseraError`` when it is beyond what the coder is meant for."""
        if nats > (LIMIT - 1) * self.kl_per_partition:
            raise TesseraError(
                f"a block has a KL of {nats:.4g} nats, and kl_per_partition={self.kl_per_partition} codes at most "
                f"{(LIMIT - 1) * self.kl_per_partition:.4g}: raise it, or check that the model is trained."
            )
        if self.schedule == "power_law":
            return math.ceil(nats / self.kl_per_partition)
        return coarse(nats / self.kl_per_partition)

    def codes(self, loc: Floats, variance: Floats, steps: Sequence[int]) -> list[int]:
        """The schedule of each block, m and s^2 being (M, D); one with fewer than two steps needs none."""
        codes = [POWER_LAW] * len(steps)
        several = [i for i, count in enumerate(steps) if count > 1]
        if self.schedule == "power_law" or not several:
            return codes
        table = [losses(loc[i], variance[i], steps[i], self.kl_per_partition, self.spare_nats) for i in several]
        for i, code in zip(several, choose(table), strict=True):
            codes[i] = int(code)
        return codes

    def shares(self, code: int, steps: int, dims: int) -> Schedule:
        """The schedule that a code names."""
        return make_schedule(code, steps, dims, self.kl_per_partition)

    def write(self, blocks: Sequence[Symbols], encoder: Encoder) -> None:
        """Append blocks: the numbers of steps, the schedules of those with more than one, then the indices of all."""
        steps = [len(symbols) - 1 for symbols in blocks]
        if self.schedule == "power_law":
            write_steps(steps, encoder)
        else:
            write_steps([level(count) for count in steps], encoder)
            write_codes([symbols[0] for symbols in blocks if len(symbols) > 2], CODES, encoder)
        self.write_indices([i for symbols in blocks for i in symbols[1:]], encoder)

    def read(self, count: int, decoder: Decoder) -> list[Symbols]:
        """The symbols of ``write``; ``BitstreamError`` for numbers that no encoder writes."""
        if self.schedule == "power_law":
            steps = read_steps(count, decoder, LIMIT - 1)
            codes = iter([POWER_LAW] * count)
        else:
            steps = [steps_at(x) for x in read_steps(count, decoder, level(LIMIT - 1))]
            codes = iter(read_codes(sum(k > 1 for k in steps), CODES, decoder))
        indices = iter(self.read_indices(sum(steps), decoder))
        heads = [next(codes, POWER_LAW) if k > 1 else POWER_LAW for k in steps]
        return [(head, *(next(indices) for _ in range(k))) for head, k in zip(heads, steps, strict=True)]

    def write_indices(self, indices: Sequence[int], encoder: Encoder) -> None:
        """Append the indices of all blocks."""
        raise NotImplementedError(f"{type(self).__name__} writes no indices")

    def read_indices(self, count: int, decoder: Decoder) -> list[int]:
        """The next ``count`` indices."""
        raise NotImplementedError(f"{type(self).__name__} reads no indices")


def check_symbols(symbols: Symbols, samples: int) -> None:
    """Refuse with ``BitstreamError`` symbols of a block whose code is unknown or whose indices are not below n."""
    if not (symbols and 0 <= symbols[0] < CODES and len(symbols) <= LIMIT):
        raise BitstreamError("the symbols of a block are not those of this coder: the stream is damaged")
    if len(symbols) > 1 and not (min(symbols[1:]) >= 0 and max(symbols[1:]) < samples):
        raise BitstreamError(f"a block holds an index that is not below {samples}: the stream is damaged")
