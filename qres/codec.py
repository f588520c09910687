"""Images to streams and back with a quantised hierarchical VAE: one range-coded stream for all latent blocks.

Encoder and decoder run the same top-down path and differ in one line: where a latent's symbols come from.
Padding repeats the last row and column to a multiple of the model's stride (its rate is counted), and is cut off after.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from core import bitstream
from core.bitstream import BitstreamError, Stream, SymbolCheck
from core.codec import Image, TesseraError
from core.entropy import Decoder, Encoder, Tables, finite_symbols, gaussian_tables
from core.images import as_rgb, check_image, crop, pad
from qres.blocks import Gaussian, Latent
from qres.network import QResVAE, code_log_likelihood

SCALES = np.exp(np.linspace(math.log(0.1), math.log(64), 64))  # standard deviations the coder knows
PIXEL_SCALES = np.exp(np.linspace(math.log(0.11), math.log(64), 96))  # the lossless model's, in grey levels
_LMB_STEPS = 4096  # a conditional model's lambda travels as round(4096 log2(lambda)) in two bytes


def lambda_code(lmb: float) -> int:
    """The 16-bit code of a lambda in [1, 65536)."""
    code = round(math.log2(lmb) * _LMB_STEPS) if lmb > 0 else -1
    if not 0 <= code < 65536:
        raise TesseraError(f"lmb={lmb} cannot travel in a stream: use 1 to 65535.")
    return code


def scale_index(scale: Tensor, scales: np.ndarray) -> np.ndarray:
    """The nearest known scale on the logarithmic axis, as int64 of the same shape; non-finite ones are refused."""
    middle = torch.from_numpy(np.sqrt(scales[1:] * scales[:-1]).astype(np.float32))
    if not bool(torch.isfinite(scale).all()):
        raise TesseraError("the model gives a scale that is not finite for this image: its weights are unusable.")
    return torch.bucketize(scale.cpu().contiguous(), middle).numpy()


class QResCodec:
    """Compress and decompress with one model at one lambda; ready as soon as it is made."""

    def __init__(self, model: QResVAE, name: str, digest: bytes) -> None:
        self.model = model.eval()
        self.device = next(model.parameters()).device
        self.tables: Tables = gaussian_tables(SCALES)
        self.pixel_tables: Tables | None = gaussian_tables(PIXEL_SCALES) if model.out_net is not None else None
        self.fingerprint = bitstream.fingerprint(name, digest)
        self._code = lambda_code(model.lmb) if model.embedding is not None else None

    @torch.inference_mode()
    def compress(self, image: Image) -> bytes:
        """uint8 (H, W, 1 or 3) -> stream."""
        check_image(image)
        x = self._tensor(image)
        condition = self._condition(self._code)
        features = self.model.features(x, condition)
        encoder, check = Encoder(), SymbolCheck()

        def encode(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
            symbols = torch.round(block.infer(f, features[f.shape[2]]) - prior.mean)
            values = finite_symbols(symbols.cpu().numpy())
            encoder.encode(values, scale_index(prior.scale, SCALES), self.tables)
            check.update(values)
            return symbols + prior.mean

        last = self.model.top_down(self._shape(x), encode, condition)
        height, width, channels = image.shape
        if self.pixel_tables is not None:
            mean, index = self._pixel_prior(last, height, width)
            symbols = as_rgb(image).astype(np.int32) - mean
            encoder.encode(symbols, index, self.pixel_tables)
            check.update(symbols)
        payload = b"" if self._code is None else self._code.to_bytes(2, "little")
        payload += encoder.finish()
        return bitstream.pack(Stream(self.fingerprint, height, width, channels, (payload,), check.digest()))

    @torch.inference_mode()
    def decompress(self, stream: bytes) -> Image:
        """Stream -> uint8 (H, W, 1 or 3); ``BitstreamError`` for a damaged or foreign stream."""
        s = bitstream.unpack(stream, self.fingerprint)
        if len(s.chunks) != 1 or (self._code is not None and len(s.chunks[0]) < 2):
            raise BitstreamError("the stream has no payload of this method: it is damaged")
        payload, code = s.chunks[0], self._code
        if code is not None:
            payload, code = payload[2:], int.from_bytes(payload[:2], "little")
        condition = self._condition(code)
        decoder, check = Decoder(payload), SymbolCheck()

        def decode(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
            values = decoder.decode(scale_index(prior.scale, SCALES), self.tables)
            check.update(values)
            return torch.from_numpy(values).to(self.device, torch.float32) + prior.mean

        stride = self.model.arch.stride
        last = self.model.top_down((1, -(-s.height // stride), -(-s.width // stride)), decode, condition)
        if self.pixel_tables is not None:
            mean, index = self._pixel_prior(last, s.height, s.width)
            symbols = decoder.decode(index, self.pixel_tables)
            check.update(symbols)
            pixels = (mean + symbols).astype(np.int64)
        else:
            levels = (last.float().clamp(-1, 1) * 127.5 + 127.5).round()
            pixels = crop(levels[0].permute(1, 2, 0).cpu().numpy(), s.height, s.width)
        check.verify(s.symbols_check)
        rgb = np.clip(pixels, 0, 255).astype(np.uint8)
        return rgb if s.channels == 3 else _grey(rgb)

    @torch.inference_mode()
    def bits(self, image: Image) -> float:
        """The model's estimate: -log2 of the mass of every quantised latent (and pixel), padding included."""
        x = self._tensor(image)
        condition = self._condition(self._code)
        features = self.model.features(x, condition)
        nats = 0.0

        def visit(i: int, block: Latent, f: Tensor, prior: Gaussian) -> Tensor:
            nonlocal nats
            symbols = torch.round(block.infer(f, features[f.shape[2]]) - prior.mean)
            nats -= float(code_log_likelihood(symbols, prior.scale).double().sum())
            return symbols + prior.mean

        last = self.model.top_down(self._shape(x), visit, condition)
        if self.pixel_tables is not None:
            height, width, _ = image.shape
            log_mass = self.model.pixel_log_likelihood(last, (x - 0.5) * 2)[..., :height, :width]
            nats -= float(log_mass.double().sum())
        return nats / math.log(2)

    def payload_bits(self, stream: bytes) -> int:
        """Bits of entropy-coded symbols."""
        return bitstream.payload_bits(stream) - (16 if self._code is not None else 0)

    def _tensor(self, image: Image) -> Tensor:
        """uint8 (H, W, C) -> padded (1, 3, H', W') in [0, 1]."""
        padded = pad(as_rgb(image), self.model.arch.stride)
        return torch.from_numpy(padded).to(self.device).permute(2, 0, 1)[None].float() / 255

    def _shape(self, x: Tensor) -> tuple[int, int, int]:
        stride = self.model.arch.stride
        return len(x), x.shape[2] // stride, x.shape[3] // stride

    def _condition(self, code: int | None) -> Tensor | None:
        if code is None:
            return None
        return self.model.condition(torch.tensor([2 ** (code / _LMB_STEPS)], device=self.device))

    def _pixel_prior(self, last: Tensor, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Predicted grey levels (H, W, 3), int32, and table indices of the same shape; padding is not coded."""
        assert self.model.out_net is not None
        mean = self.model.out_net["conv_mean"](last).float()[0, :, :height, :width].permute(1, 2, 0)
        raw = self.model.out_net["conv_scale"](last).float()[0, :, :height, :width].permute(1, 2, 0)
        levels = finite_symbols((mean * 127.5 + 127.5).round().clamp(0, 255).cpu().numpy())
        return levels, scale_index(torch.exp(raw) * 127.5, PIXEL_SCALES)


def _grey(rgb: Image) -> Image:
    """The mean of the three channels, rounded: exact when they are equal."""
    return np.rint(rgb.mean(axis=2, keepdims=True)).astype(np.uint8)
