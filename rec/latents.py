"""The latents of a hierarchy in a stream: one tensor after the other, from the top, each by relative entropy coding.

Every tensor is coded in units of its prior, as a sample of N((m - p) / r, (s / r)^2) under N(0, 1). What is written
then does not depend on the prior's floats at all, and what two machines make of it differs only as much as their priors
do: nothing after a rounding difference is lost.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.entropy import Decoder, Encoder
from rec import blocks
from rec.coders.contract import BlockCoder, coder_options, make_coder
from rec.gaussian import Gaussian
from rec.models.hierarchy import Normal

STEPS = 256  # of a prior's standard deviation, in which the check of decoded latents counts

SEARCHES = ("beam_search", "irec_importance")  # coders that take targets of any width
WIDEST, NARROWEST, TOP = 0.97, 0.3, 9.0  # scales in units of the prior's, nats: see _bounded

P = ParamSpec("P")
T = TypeVar("T")
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """How latents are coded: the options of the published commands."""

    coder: str = "beam_search"
    n_beams: int = 20
    extra_samples: float = 1.0
    kl_per_partition: float = 3.0
    schedule: str = "equal_kl"
    block_size: int = 1000
    seed: int = 42

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise TesseraError(f"block_size={self.block_size} must be at least 1.")

    def make(self) -> BlockCoder:
        """The coder; options that it does not have are left out."""
        known = coder_options(self.coder)
        return make_coder(self.coder, **{k: v for k, v in asdict(self).items() if k in known})


@dataclass(frozen=True)
class Level:
    """What one tensor costs, in bits: its KL, what the coder's analysis counts, what was written; and ln q / p."""

    kl_bits: float
    ideal_bits: float
    file_bits: float
    ratio_bits: float  # log2 q(z) / p(z) of the coded sample


def exact(work: Callable[P, T]) -> Callable[P, T]:
    """Decorator of a codec's pass: without gradients and in float32 with all digits, whatever the caller chose."""

    @functools.wraps(work)
    def run(*args: P.args, **options: P.kwargs) -> T:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        try:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())
                stack.enter_context(torch.backends.cudnn.flags(allow_tf32=False))
                for kind in kinds:
                    stack.enter_context(torch.autocast(kind, enabled=False))
                return work(*args, **options)
        finally:
            torch.set_float32_matmul_precision(before)

    return run


@contextmanager
def repeatable() -> Iterator[None]:
    """Random numbers inside are always the same ones, and the caller's go on as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class LatentCoder:
    """Codes the tensors of a hierarchy, each under its number from the top."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.coder = settings, settings.make()

    def encode(self, layer: int, q: Normal, p: Normal, encoder: Encoder) -> tuple[Tensor, Ints, Level]:
        """Write a sample of q; it, in the shape of q, the numbers for the check, and what was spent."""
        s = self.settings
        loc, scale = _flat((q.loc.double() - p.loc) / p.scale), _flat(q.scale.double() / p.scale)
        target = Gaussian(loc, scale if s.coder in SEARCHES else np.minimum(scale, _bounded(loc)))
        prior = _standard(target.shape)
        unit, account = blocks.write_tensor(encoder, target, prior, self.coder, s.seed, layer, s.block_size)
        nats = account.kl_nats, account.log_ratio_nats
        kl_bits, ratio_bits = (float(n / np.log(2)) for n in nats)
        return _placed(unit, p), _counted(unit), Level(kl_bits, account.ideal_bits, account.file_bits, ratio_bits)

    def decode(self, layer: int, p: Normal, decoder: Decoder) -> tuple[Tensor, Ints]:
        """Mirror of ``encode``; ``BitstreamError`` for what no encoder writes."""
        s = self.settings
        if not (torch.isfinite(p.loc).all() and torch.isfinite(p.scale).all()):
            raise BitstreamError("the stream is damaged: what it holds leads the model to numbers that are not finite")
        prior = _standard((p.loc.numel(),))
        unit = blocks.read_tensor(decoder, prior, self.coder, s.seed, layer, s.block_size)
        return _placed(unit, p), _counted(unit)


def _bounded(loc: Floats) -> Floats:
    """Largest scales for coders that need a bounded density ratio of N(loc, scale^2) to N(0, 1).

    Its largest logarithm is loc^2 / 2 / (1 - scale^2) - ln scale: scales of the result keep the first term at TOP nats
    where they can. A narrower target costs bits, and nothing else.
    """
    widest: Floats = np.sqrt(np.clip(1 - loc**2 / (2 * TOP), NARROWEST**2, WIDEST**2))
    return widest


def _standard(shape: tuple[int, ...]) -> Gaussian:
    return Gaussian(np.zeros(shape), np.ones(shape))


def _flat(x: Tensor) -> Floats:
    flat: Floats = x.detach().reshape(-1).cpu().numpy().astype(np.float64)
    return flat


def _placed(unit: Floats, p: Normal) -> Tensor:
    """Samples in units of the prior, in C order -> the tensor of latents."""
    z = torch.from_numpy(unit).view(p.loc.shape).to(p.loc.device)
    placed: Tensor = p.loc + p.scale * z.float()
    return torch.empty_like(p.loc).copy_(placed)


def _counted(unit: Floats) -> Ints:
    """What the check takes in: coarse enough to be the same on machines whose last digits differ."""
    return np.rint(unit * STEPS).clip(-(2**30), 2**30).astype(np.int64)
