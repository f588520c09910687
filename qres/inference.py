"""The networks as the codec runs them on a CPU: the same functions, faster, and in bounded memory.

Weights are packed for oneDNN once (its matrix products run at about twice the speed of the default ones here), GELU and
residual sums are fused into the products, the layer scale is folded into the last matrix, and every layer works on
strips of rows with the overlap its kernels need, so that no intermediate is larger than a strip. Tensors are
(B, H, W, C) inside; what ``visit`` sees are the (B, C, H, W) views that ``QResVAE.top_down`` shows too.

The results differ from ``QResVAE``'s in the last float digits, which streams allow for (``core.portable``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import onednn
from core.modules import bias_of, of_kind, padding_of
from qres.blocks import CNX, VD, AdaCNX, AdaLatent, CNXDown, Gaussian, Latent, VDLatent
from qres.network import QResVAE

CHUNK = 4096  # pixels of a matrix product: its hidden layer stays in the cache
STRIP = 2**14  # pixels of a strip of rows


def available(model: QResVAE) -> bool:
    """Whether a model can run here this way: channel-last on a CPU, with oneDNN."""
    here = next(model.parameters()).device.type == "cpu" and model.memory_format == torch.channels_last
    return here and onednn.available()


class Network:
    """``features``, ``top_down`` and ``pixel_prior`` of a model. Weights are those at construction."""

    def __init__(self, model: QResVAE) -> None:
        self.arch, self._bias = model.arch, model.decoder.bias
        self._bottom_up = [_packed(block) for block in model.encoder.enc_blocks]
        self._top_down = [_packed(block) for block in model.decoder.dec_blocks]
        self._heads = [_packed(head) for head in model.out_net.values()] if model.out_net is not None else []

    def features(self, images: Tensor, condition: Tensor | None = None) -> dict[int, Tensor]:
        """As ``QResVAE.features``."""
        x = images.permute(0, 2, 3, 1).contiguous()
        x = (x + self.arch.shift).mul_(self.arch.scale)
        kept, found = self.arch.kept, dict[int, Tensor]()
        for i, block in enumerate(self._bottom_up):
            if type(block) is _CNX and x is found.get(x.shape[1]):  # it would overwrite what is kept
                x = x.clone()
            x = block(x, condition)
            if i in kept:
                found[x.shape[1]] = x
        return {height: _nchw(x) for height, x in found.items()}

    def top_down(self, shape: tuple[int, int, int], visit: Any, condition: Tensor | None = None) -> Tensor:
        """As ``QResVAE.top_down``."""
        f, i = self._bias.permute(0, 2, 3, 1).repeat(shape[0], shape[1], shape[2], 1), 0
        for block in self._top_down:
            if isinstance(block, _Latent):
                prior = block.propose(f, condition)
                f = block.merge(f, visit(i, block, _nchw(f), prior), condition)
                i += 1
            else:
                f = block(f, condition)
        return _nchw(f)

    def pixel_prior(self, last: Tensor) -> tuple[Tensor, Tensor]:
        """As ``QResVAE.pixel_prior``."""
        mean, log_scale = (_nchw(head(_nhwc(last), None)) for head in self._heads)
        return mean, log_scale


def _packed(block: nn.Module) -> Any:
    kinds = {CNX: _CNX, AdaCNX: _CNX, CNXDown: _CNXDown, VDLatent: _VDLatent, AdaLatent: _AdaLatent, nn.Conv2d: _Patch}
    if type(block) in kinds:
        return kinds[type(block)](block)
    if isinstance(block, nn.Sequential):
        return _Up(of_kind(block[0], nn.Conv2d), of_kind(block[1], nn.PixelShuffle).upscale_factor)
    if isinstance(block, nn.Identity):
        return lambda x, condition: x
    return lambda x, condition: _nhwc(block(_nchw(x)))  # up-sampling layers of qres17m


def _nchw(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def _strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    """(first row, row after the last) of the strips of an image."""
    rows = max(16, STRIP // width // 4 * 4)  # no patch is cut
    return ((a, min(a + rows, height)) for a in range(0, height, rows))


class _Linear(onednn.Linear):
    """A matrix on the channels of pixels."""

    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight, bias, CHUNK)

    def on(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """The matrix on all pixels of (..., in), chunk by chunk; ``out`` (..., out) is added to in place if given."""
        made = x.new_empty(*x.shape[:-1], len(self.bias)) if out is None else out
        rows, flat = x.reshape(-1, x.shape[-1]), made.view(-1, made.shape[-1])
        for a in range(0, len(flat), CHUNK):
            part = slice(a, a + CHUNK)
            flat[part] = self(rows[part], add=None if out is None else flat[part])
        return made


def _pointwise(conv: nn.Conv2d) -> _Linear:
    """A 1x1 convolution as a matrix."""
    return _Linear(conv.weight.flatten(1), bias_of(conv))


class _Conv:
    """A convolution without stride, same padding: (B, h, w, in) -> (B, h, w, out), then GELU if asked."""

    def __init__(self, conv: nn.Conv2d, gelu: bool) -> None:
        self.halo, self.after = padding_of(conv)[0], "gelu" if gelu else ""
        self.convolution = onednn.Convolution(conv.weight, conv.bias, padding_of(conv), groups=conv.groups)

    def __call__(self, x: Tensor) -> Tensor:
        return _nhwc(self.convolution(_nchw(x), self.after))


class _CNX:
    """A CNX block; it overwrites its input."""

    def __init__(self, block: CNX) -> None:
        conv = block.conv_dw
        pointwise = conv.kernel_size == (1, 1)
        self.scale = (conv.weight.view(-1), bias_of(conv)) if pointwise else None
        self.depthwise = None if pointwise else _Conv(conv, gelu=False)
        self.norm, self.modulation = block.norm, block.modulation
        fc1, fc2 = (of_kind(block.mlp[name], nn.Linear) for name in ("fc1", "fc2"))
        gamma = block.gamma.view(-1)
        self.fc1, self.fc2 = _Linear(fc1.weight, fc1.bias), _Linear(gamma[:, None] * fc2.weight, gamma * fc2.bias)

    def __call__(self, x: Tensor, condition: Tensor | None) -> Tensor:
        if len(x) > 1 and x.shape[1] * x.shape[2] > STRIP:
            for i in range(len(x)):
                _CNX.__call__(self, x[i : i + 1], None if condition is None else condition[i : i + 1])
            return x
        affine = self._affine(condition)
        halo, above = self.depthwise.halo if self.depthwise else 0, x[:, :0]
        for a, b in _strips(x.shape[1], x.shape[2]):
            window, skip = x[:, a : b + halo], above.shape[1]
            y = self._mix(torch.cat([above, window], dim=1) if skip else window)[:, skip : skip + b - a]
            above = x[:, b - halo : b].clone() if b < x.shape[1] else above  # the rows as they were
            for parts in zip(y.chunk(len(affine)), x[:, a:b].chunk(len(affine)), affine, strict=True):
                self._mlp(*parts)
        return x

    def _affine(self, condition: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of the normalisation: one for all images, or one for each when lambda modulates it."""
        weight, bias = self.norm.weight, self.norm.bias
        if (modulation := self.modulation(condition)) is None:
            return [(weight, bias)]
        rows = zip(*modulation, strict=True)
        if weight is None:
            return [(1 + scale, shift) for scale, shift in rows]
        return [(weight * (1 + scale), bias * (1 + scale) + shift) for scale, shift in rows]

    def _mix(self, x: Tensor) -> Tensor:
        if self.depthwise is not None:
            return self.depthwise(x)
        assert self.scale is not None
        return x * self.scale[0] + self.scale[1]

    def _mlp(self, y: Tensor, x: Tensor, affine: tuple[Tensor, Tensor]) -> None:
        y, x = y.reshape(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        for a in range(0, len(x), CHUNK):
            rows = slice(a, a + CHUNK)
            u = F.layer_norm(y[rows], y.shape[-1:], *affine, self.norm.eps)
            x[rows] = self.fc2(self.fc1(u, "gelu"), add=x[rows])


class _CNXDown(_CNX):
    """A CNX block, strip by strip on copies because its input is kept, then a strided convolution."""

    def __init__(self, block: CNXDown) -> None:
        super().__init__(block)
        self.down = _Patch(block.downsapmle)

    def __call__(self, x: Tensor, condition: Tensor | None) -> Tensor:
        halo, out = self.depthwise.halo if self.depthwise else 0, []
        for a, b in _strips(x.shape[1], x.shape[2]):
            low = max(a - halo, 0)
            rows = super().__call__(x[:, low : b + halo].clone(memory_format=torch.contiguous_format), condition)
            out.append(self.down(rows[:, a - low : b - low].contiguous(), condition))
        return torch.cat(out, dim=1)


class _Patch:
    """A convolution whose stride is its kernel size, as a matrix on patches."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.rate, self.out = conv.stride[0], conv.out_channels
        self.linear = _Linear(conv.weight.detach().permute(0, 2, 3, 1).reshape(self.out, -1), bias_of(conv))

    def __call__(self, x: Tensor, condition: Tensor | None) -> Tensor:
        b, height, width, c = x.shape
        h, w, r = height // self.rate, width // self.rate, self.rate
        patches, out = x.view(b, h, r, w, r * c), x.new_empty(b, h, w, self.out)
        for start, stop in _strips(h, w):
            rows = patches[:, start:stop].transpose(2, 3).reshape(-1, r * r * c)
            out[:, start:stop] = self.linear(rows).view(b, -1, w, self.out)
        return out


class _Up:
    """A 1x1 convolution and a pixel shuffle; the matrix gives its rows in the order of the pixels."""

    def __init__(self, conv: nn.Conv2d, rate: int) -> None:
        self.rate, r, out = rate, rate, conv.out_channels // rate**2
        weight = conv.weight.detach().view(out, r, r, -1).permute(1, 2, 0, 3).reshape(out * r * r, -1)
        bias = bias_of(conv).detach().view(out, r, r).permute(1, 2, 0).reshape(-1)
        self.linear, self.out = _Linear(weight, bias), out

    def __call__(self, x: Tensor, condition: Tensor | None) -> Tensor:
        b, h, w, c = x.shape
        r, out = self.rate, x.new_empty(b, h * self.rate, w * self.rate, self.out)
        shuffled = out.view(b, h, r, w, r * self.out)
        for start, stop in _strips(h, w):
            pixels = self.linear(x[:, start:stop].reshape(-1, c))
            shuffled[:, start:stop] = pixels.view(b, -1, w, r, r * self.out).transpose(2, 3)
        return out


class _VD:
    """Four convolutions, each after a GELU, of one input or of several that stand for their concatenation."""

    def __init__(self, block: VD, widths: tuple[int, ...]) -> None:
        first = block.c1.weight.flatten(1).split(widths, dim=1)
        bias = bias_of(block.c1)
        self.first = [_Linear(w, torch.zeros_like(bias) if i else bias) for i, w in enumerate(first)]
        self.middle = [_Conv(block.c2, gelu=True), _Conv(block.c3, gelu=True)]
        self.last = _pointwise(block.c4)

    def __call__(self, *inputs: Tensor) -> Tensor:
        b, height, width, _ = inputs[0].shape
        out = inputs[0].new_empty(b, height, width, len(self.last.bias))
        halo = sum(conv.halo for conv in self.middle)
        for start, stop in _strips(height, width):
            low = max(start - halo, 0)
            x = self._hidden([f[:, low : stop + halo] for f in inputs])
            for conv in self.middle:
                x = conv(x)
            x = x[:, start - low : stop - low]
            out[:, start:stop] = self.last(x.reshape(-1, x.shape[-1])).view(b, -1, width, out.shape[-1])
        return out

    def _hidden(self, inputs: list[Tensor]) -> Tensor:
        """GELU of the first convolution of the GELU of the inputs."""
        flat = [f.reshape(-1, f.shape[-1]) for f in inputs]
        hidden = flat[0].new_empty(len(flat[0]), len(self.first[0].bias))
        for a in range(0, len(hidden), CHUNK):
            rows = slice(a, a + CHUNK)
            u = self.first[0](F.gelu(flat[0][rows]), "gelu" if len(flat) == 1 else "")
            for linear, f in zip(self.first[1:], flat[1:], strict=True):
                u = linear(F.gelu(f[rows].float()), add=u)
            hidden[rows] = u if len(flat) == 1 else F.gelu(u)
        return hidden.view(*inputs[0].shape[:3], -1)


class _Latent:
    """What packed latent blocks share; ``propose`` and ``merge`` overwrite the state."""

    prior: Callable[[Tensor], Tensor]

    def __init__(self, block: Latent) -> None:
        self.front, self.end = _CNX(block.resnet_front), _CNX(block.resnet_end)

    def propose(self, f: Tensor, condition: Tensor | None) -> Gaussian:
        """Run the front block on the state and give the prior it implies."""
        return Latent.bounded(_nchw(self.prior(self.front(f, condition))))

    def merge(self, f: Tensor, z: Tensor, condition: Tensor | None) -> Tensor:
        """Add the latent to the state and run the end block."""
        raise NotImplementedError


class _VDLatent(_Latent):
    """The latent block of QRes-VAE."""

    def __init__(self, block: VDLatent) -> None:
        super().__init__(block)
        width = len(block.resnet_front.gamma)
        self.posterior, self.prior = _VD(block.posterior, (width, width)), _VD(block.prior, (width,))
        self.project = _Conv(of_kind(block.z_proj[0], nn.Conv2d), gelu=True)
        self.widen = _pointwise(of_kind(block.z_proj[2], nn.Conv2d))

    def infer(self, f: Tensor, e: Tensor, condition: Tensor | None = None) -> Tensor:
        """As ``Latent.infer``."""
        return _nchw(self.posterior(_nhwc(f), _nhwc(e)))

    def merge(self, f: Tensor, z: Tensor, condition: Tensor | None) -> Tensor:
        z, halo = _nhwc(z), self.project.halo
        for start, stop in _strips(f.shape[1], f.shape[2]):
            low = max(start - halo, 0)
            hidden = self.project(z[:, low : stop + halo])[:, start - low : stop - low]
            for image, part in zip(f, hidden, strict=True):
                self.widen.on(part, image[start:stop])
        return self.end(f, condition)


class _AdaLatent(_Latent):
    """The latent block of QARV."""

    def __init__(self, block: AdaLatent) -> None:
        super().__init__(block)
        self.posterior0, self.posterior1 = _CNX(block.posterior0), _CNX(block.posterior1)
        self.posterior2, self.posterior = _CNX(block.posterior2), _Conv(block.posterior, gelu=False)
        merge, width = block.post_merge, block.post_merge.out_channels
        weights = merge.weight.flatten(1).split((width, merge.in_channels - width), dim=1)
        self.from_f, self.from_e = _Linear(weights[0], bias_of(merge)), _Linear(weights[1], torch.zeros(width))
        self.prior = _pointwise(block.prior).on
        self.widen = _pointwise(block.z_proj)

    def infer(self, f: Tensor, e: Tensor, condition: Tensor | None = None) -> Tensor:
        """As ``Latent.infer``."""
        f = self.posterior1(_nhwc(f).clone(), condition)
        e = self.posterior0(_nhwc(e).to(torch.float32, copy=True), condition)
        rows, others = f.view(-1, f.shape[-1]), e.view(-1, e.shape[-1])
        for a in range(0, len(rows), CHUNK):
            part = slice(a, a + CHUNK)
            rows[part] = self.from_e(others[part], add=self.from_f(rows[part]))
        del e, others
        return _nchw(self.posterior(self.posterior2(f, condition)))

    def merge(self, f: Tensor, z: Tensor, condition: Tensor | None) -> Tensor:
        return self.end(self.widen.on(_nhwc(z), f), condition)
