"""Growth of a trained conditional network into a wider and deeper one that computes the same: a start for training.

Net2Net (Chen, Goodfellow, Shlens, ICLR 2016, arXiv 1511.05641), for these blocks. Every channel is repeated a whole
number of times, so that LayerNorm sees the same mean and variance; what reads the copies shares the weight among them
with random differences that cancel, so that copies learn apart. Kernels are padded with zeros, and blocks that the
small network lacks start as the identity: residual ones with a layer scale of 0, latent ones with symbols of 0.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from core.codec import TesseraError
from core.modules import bias_of
from qres.blocks import CNX, VD, CNXDown, VDLatent
from qres.network import QResVAE

QUIET = -3.0  # raw log-scale of new priors: a symbol of 0 costs next to nothing, and the scale has a gradient
LAMBDAS = 64  # at which the modulations are fitted
Kind = tuple[str, int]  # of a layer: what it is, and its stride


@torch.no_grad()
def grow(small: QResVAE, large: QResVAE) -> QResVAE:
    """Put what ``small`` has learned into ``large``, a fresh network, in place; returns it.

    Both are conditional on lambda. Outputs agree to rounding where both have the same latents; of more latent channels
    than ``large`` has, those that matter least to the decoder are left out. Raises TesseraError where a width is no
    multiple of the small one or a latent has more channels than the small one.
    """
    few = small.arch.stride
    modulate = _Modulation(small, large)
    for old, new in _pairs(small, large, "encoder"):
        if isinstance(old, CNX) and isinstance(new, CNX):
            _residual(old, new, modulate)
        elif isinstance(old, nn.Conv2d) and isinstance(new, nn.Conv2d):
            _linear(old, new)
    for old, new in _pairs(small, large, "decoder"):
        if isinstance(old, VDLatent) and isinstance(new, VDLatent):
            _latent(old, new, modulate)
        elif isinstance(old, nn.Sequential) and isinstance(new, nn.Sequential):
            _linear(old[0], new[0], outs=_shuffled(old, new))
    start = small.decoder.bias
    if large.arch.stride == few:
        large.decoder.bias.copy_(start[:, _copies(start.shape[1], large.decoder.bias.shape[1])])
    else:  # the first state of the small network comes out of the layer that leads to its resolution
        into = _by_kind(large, "decoder")["up", 2 * few][0]
        assert isinstance(into, nn.Sequential)
        bias = bias_of(into[0])
        bias.copy_(start.flatten()[_copies(start.shape[1], len(bias) // 4)].repeat_interleave(4))
    return large


def _by_kind(net: QResVAE, path: str) -> dict[Kind, list[nn.Module]]:
    """The layers of a path in order, by kind and stride (of their input)."""
    found: dict[Kind, list[nn.Module]] = defaultdict(list)
    layers, modules, stride = (
        (net.arch.encoder, net.encoder.enc_blocks, 1)
        if path == "encoder"
        else (net.arch.decoder, net.decoder.dec_blocks, net.arch.stride)
    )
    for (kind, *arguments), module in zip(layers, modules, strict=True):
        found[kind, stride].append(module)
        if kind in ("patch", "down"):
            stride *= arguments[-1]
        elif kind == "up":
            stride //= arguments[-1]
    return found


def _pairs(small: QResVAE, large: QResVAE, path: str) -> Iterator[tuple[nn.Module, nn.Module]]:
    """The layers of the large network that have one in the small one; the others are made to do nothing."""
    old = _by_kind(small, path)
    for kind, modules in _by_kind(large, path).items():
        had = old.pop(kind, [])
        yield from zip(had, modules, strict=False)
        for module in modules[len(had) :]:
            _silence(module)
        if len(had) > len(modules):
            old[kind] = had
    if old:
        layers = ", ".join(f"{kind} at stride {stride}" for kind, stride in old)
        raise TesseraError(f"these weights have layers that the larger network has no place for: {layers}.")


def _silence(module: nn.Module) -> None:
    """Make a layer that the small network lacks the identity, able to learn."""
    for block in module.modules():
        if isinstance(block, CNX) and not isinstance(block, CNXDown):
            block.gamma.zero_()
    if isinstance(module, VDLatent):
        module.posterior.c4.weight.mul_(0.1)
        bias_of(module.prior.c4)[module.z :] = QUIET
        for layer in (module.z_proj[0], module.z_proj[2]):
            assert isinstance(layer, nn.Conv2d)
            bias_of(layer).zero_()


def _copies(old: int, new: int) -> Tensor:
    """For each of ``new`` channels the one of ``old`` that it repeats."""
    if new % old:
        raise TesseraError(f"a width of {new} is no multiple of {old}: these weights cannot grow into it.")
    return torch.arange(new) % old


def _linear(old: nn.Module, new: nn.Module, outs: Tensor | None = None, ins: Tensor | None = None) -> None:
    """A convolution or matrix of repeated outputs and inputs (in order, or those given)."""
    assert isinstance(old, nn.Conv2d | nn.Linear) and isinstance(new, nn.Conv2d | nn.Linear)
    source, target = old.weight, new.weight
    outs = _copies(len(source), len(target)) if outs is None else outs
    ins = _copies(source.shape[1], target.shape[1]) if ins is None else ins
    made = torch.zeros(len(outs), len(ins), *target.shape[2:])
    margin = [(n - k) // 2 for n, k in zip(target.shape[2:], source.shape[2:], strict=True)]
    inside = (slice(None), slice(None), *(slice(m, m + k) for m, k in zip(margin, source.shape[2:], strict=True)))
    times = torch.bincount(ins, minlength=source.shape[1])
    shape = (1, -1, *(1 for _ in margin))
    made[inside] = source[outs][:, ins] / times[ins].view(shape)
    noise = torch.randn_like(made) * made.std() / 2
    sums = torch.zeros(len(outs), source.shape[1], *target.shape[2:]).index_add_(1, ins, noise)
    target.copy_(made + (noise - sums[:, ins] / times[ins].view(shape)))
    bias_of(new).copy_(bias_of(old)[outs])


def _shuffled(old: nn.Sequential, new: nn.Sequential) -> Tensor:
    """The repeated outputs of a convolution whose pixels are shuffled after it."""
    (source, shuffle), (target, _) = old, new
    assert isinstance(source, nn.Conv2d) and isinstance(target, nn.Conv2d) and isinstance(shuffle, nn.PixelShuffle)
    times = shuffle.upscale_factor**2
    channels = _copies(source.out_channels // times, target.out_channels // times)
    return (channels[:, None] * times + torch.arange(times)).flatten()


def _residual(old: CNX, new: CNX, modulate: _Modulation) -> None:
    width, wider = len(old.norm.weight), len(new.norm.weight)
    channels = _copies(width, wider)
    _linear(old.conv_dw, new.conv_dw)
    for source, target in ((old.norm.weight, new.norm.weight), (old.norm.bias, new.norm.bias), (old.gamma, new.gamma)):
        target.copy_(source[channels])
    for name in ("fc1", "fc2"):
        _linear(old.mlp[name], new.mlp[name])
    modulate(old, new, torch.cat([channels, width + channels]))
    if isinstance(old, CNXDown) and isinstance(new, CNXDown):
        _linear(old.downsapmle, new.downsapmle)


def _latent(old: VDLatent, new: VDLatent, modulate: _Modulation) -> None:
    narrow, wide = old.z_proj[0], new.z_proj[0]
    assert isinstance(narrow, nn.Conv2d)
    if new.z > old.z:
        raise TesseraError(f"a latent of {new.z} channels cannot be grown from one of {old.z}.")
    heard = narrow.weight.square().sum((0, 2, 3)) * old.posterior.c4.weight.square().sum((1, 2, 3))
    kept = heard.argsort(descending=True)[: new.z].sort().values
    _residual(old.resnet_front, new.resnet_front, modulate)
    _residual(old.resnet_end, new.resnet_end, modulate)
    half, twice = old.posterior.c1.in_channels // 2, new.posterior.c1.in_channels // 2
    both = _copies(half, twice)
    _net(old.posterior, new.posterior, kept, torch.cat([both, half + both]))
    _net(old.prior, new.prior, torch.cat([kept, old.z + kept]), _copies(half, twice))
    _linear(narrow, wide, ins=kept)
    _linear(old.z_proj[2], new.z_proj[2])


def _net(old: VD, new: VD, outs: Tensor, ins: Tensor) -> None:
    _linear(old.c1, new.c1, ins=ins)
    _linear(old.c2, new.c2)
    _linear(old.c3, new.c3)
    _linear(old.c4, new.c4, outs=outs)


class _Modulation:
    """What lambda does to the blocks, fitted by least squares on the large network's own embedding."""

    def __init__(self, small: QResVAE, large: QResVAE) -> None:
        low, high = map(math.log, large.lmb_range)
        asked = torch.exp(torch.linspace(low, high, LAMBDAS))
        known = asked.clamp(*small.lmb_range)
        self.before, after = small.condition(known), large.condition(asked)
        assert self.before is not None and after is not None
        ones = torch.ones(LAMBDAS, 1, dtype=torch.float64)
        self.solve = torch.linalg.pinv(torch.cat([after.double(), ones], dim=1), rtol=1e-6)

    def __call__(self, old: CNX, new: CNX, rows: Tensor) -> None:
        assert old.film is not None and new.film is not None
        wanted = old.film(self.before)[:, rows].double()
        found = self.solve @ wanted
        new.film.weight.copy_(found[:-1].T)
        new.film.bias.copy_(found[-1])
