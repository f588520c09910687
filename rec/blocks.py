"""Whole tensors: a seeded permutation, blocks of about ``block_size`` dimensions, and their symbols in one stream.

    chunk, sample, account = encode_tensor(target, prior, coder, seed, layer)
    sample = decode_tensor(chunk, prior, coder, seed, layer)

Block i draws from ``Key(seed, layer, i)``. ``write_tensor`` and ``read_tensor`` do the same within a stream that holds
more than one tensor; a chunk starts with a check of the sample, so that another seed, another prior or damage shows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.bitstream import BitstreamError, bytes_like
from core.codec import TesseraError
from core.entropy import Decoder, Encoder
from rec.coders.contract import BatchCoder, BlockCoder, Coded, Symbols
from rec.gaussian import Floats, Gaussian, kl, log_ratio
from rec.randomness import STEP_BITS, Key, permutation

BLOCK_SIZE = 1000
CHECK_BYTES = 4

Order = NDArray[np.int64]


@dataclass(frozen=True)
class Account:
    """What a tensor cost: its KL, the bits the coder's analysis counts, the bits written, and ln q(z) / p(z)."""

    kl_nats: float
    ideal_bits: float
    file_bits: float
    log_ratio_nats: float

    @property
    def overhead(self) -> float:
        """The effective overhead of the bits written, (code length - ln q(z) / p(z)) / KL; NaN without any KL."""
        if not self.kl_nats:
            return float("nan")
        return (self.file_bits * float(np.log(2)) - self.log_ratio_nats) / self.kl_nats


def encode_tensor(
    target: Gaussian, prior: Gaussian, coder: BlockCoder, seed: int, layer: int = 0, block_size: int = BLOCK_SIZE
) -> tuple[bytes, Floats, Account]:
    """Code a sample of the target, Gaussian (D,), into a chunk; the sample is float64 (D,).

    Raises ``TesseraError`` when target and prior differ in shape, or when the KL is beyond the coder's budget.
    """
    encoder = Encoder()
    sample, account = write_tensor(encoder, target, prior, coder, seed, layer, block_size)
    chunk = sample_check(sample).to_bytes(CHECK_BYTES, "little") + encoder.finish()
    return chunk, sample, Account(account.kl_nats, account.ideal_bits, 8 * len(chunk), account.log_ratio_nats)


def decode_tensor(
    chunk: bytes, prior: Gaussian, coder: BlockCoder, seed: int, layer: int = 0, block_size: int = BLOCK_SIZE
) -> Floats:
    """The sample of ``encode_tensor``, bit for bit; ``BitstreamError`` when chunk, seed, prior or coder are others."""
    data = bytes_like(chunk)
    if len(data) < CHECK_BYTES:
        raise BitstreamError("the chunk of a tensor is truncated: it has no check of the sample")
    sample = read_tensor(Decoder(bytes(data[CHECK_BYTES:])), prior, coder, seed, layer, block_size)
    if sample_check(sample) != int.from_bytes(data[:CHECK_BYTES], "little"):
        raise BitstreamError(
            "the decoded sample is not the encoded one: the chunk is damaged, or seed, layer, prior or coder are not "
            "the encoder's"
        )
    return sample


def write_tensor(
    encoder: Encoder,
    target: Gaussian,
    prior: Gaussian,
    coder: BlockCoder,
    seed: int,
    layer: int = 0,
    block_size: int = BLOCK_SIZE,
) -> tuple[Floats, Account]:
    """Append a tensor to a stream; the bits written are the growth of the stream and may be off by a few."""
    if len(target.shape) != 1 or target.shape != prior.shape:
        raise TesseraError(f"a tensor is coded with Gaussians of one shape (D,), not {target.shape} and {prior.shape}.")
    before = len(encoder.finish())
    sample = np.empty(target.shape)
    coded: list[Coded] = []
    for part, keys in _parts(target.shape[0], seed, layer, block_size):
        made = encode_blocks(coder, target.take(part), prior.take(part), keys)
        sample[part] = np.stack([c.sample for c in made])
        coded += made
    coder.write([c.symbols for c in coded], encoder)
    return sample, Account(
        kl_nats=float(kl(target, prior).sum()),
        ideal_bits=sum(c.ideal_nats for c in coded) / float(np.log(2)),
        file_bits=8 * (len(encoder.finish()) - before),
        log_ratio_nats=float(log_ratio(sample, target, prior)),
    )


def read_tensor(
    decoder: Decoder, prior: Gaussian, coder: BlockCoder, seed: int, layer: int = 0, block_size: int = BLOCK_SIZE
) -> Floats:
    """The sample of ``write_tensor`` at the same place of the stream; nothing tells whether it is the encoder's."""
    if len(prior.shape) != 1:
        raise TesseraError(f"a tensor is coded with Gaussians of shape (D,), not {prior.shape}.")
    parts = list(_parts(prior.shape[0], seed, layer, block_size))
    symbols = coder.read(sum(len(part) for part, _ in parts), decoder)
    sample = np.empty(prior.shape)
    for part, keys in parts:
        mine, symbols = symbols[: len(part)], symbols[len(part) :]
        sample[part] = decode_blocks(coder, mine, prior.take(part), keys)
    return sample


def sample_check(sample: Floats) -> int:
    """CRC32 of the bytes of a sample, float64 (D,): equal only for samples that are equal bit for bit."""
    return zlib.crc32(np.ascontiguousarray(sample, dtype="<f8").data)


def _parts(dims: int, seed: int, layer: int, block_size: int) -> Iterator[tuple[Order, list[Key]]]:
    """Dimensions (blocks, size) and keys of the blocks: first those of the larger size, then those one smaller."""
    if isinstance(block_size, bool) or not isinstance(block_size, int | np.integer) or block_size < 1:
        raise TesseraError(f"block_size={block_size} must be a whole number from 1 on.")
    order = permutation(Key(seed, layer, 0, (1 << STEP_BITS) - 1), dims)
    count = -(-dims // int(block_size))
    size, larger = divmod(dims, count) if count else (0, 0)
    keys = [Key(seed, layer, i) for i in range(count)]
    if larger:
        yield order[: larger * (size + 1)].reshape(larger, size + 1), keys[:larger]
    if count > larger:
        yield order[larger * (size + 1) :].reshape(count - larger, size), keys[larger:]


def encode_blocks(coder: BlockCoder, target: Gaussian, prior: Gaussian, keys: Sequence[Key]) -> list[Coded]:
    """Code the rows of Gaussians (M, D), together where the coder can."""
    if isinstance(coder, BatchCoder):
        return coder.encode_many(target, prior, keys)
    return [coder.encode(target.rows(i), prior.rows(i), key) for i, key in enumerate(keys)]


def decode_blocks(coder: BlockCoder, symbols: Sequence[Symbols], prior: Gaussian, keys: Sequence[Key]) -> Floats:
    """Mirror of ``encode_blocks``: the samples, float64 (M, D)."""
    if isinstance(coder, BatchCoder):
        return coder.decode_many(symbols, prior, keys)
    return np.stack([coder.decode(s, prior.rows(i), keys[i]) for i, s in enumerate(symbols)])
