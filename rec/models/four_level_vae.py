"""The four-level lossy VAE: two levels at 1/16, two at 1/64, with connections between all of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from rec.models.gdn import GDN
from rec.models.hierarchy import Normal, Visit
from rec.models.level_vae import Combiner, Heads, LevelVAE, TopPrior, down, normal, required, up
from rec.models.signal_conv import SignalConv

STRIDES = (16, 16, 64, 64)  # of levels 1 to 4


def _same(inputs: int, outputs: int, analysis: bool) -> nn.Sequential:
    """Two 3x3 convolutions with GDN, or with its inverse on the way down to the image."""
    up = None if analysis else 1
    first, second = SignalConv(inputs, outputs, 3, up=up), SignalConv(outputs, outputs, 3, up=up)
    return nn.Sequential(first, GDN(outputs, not analysis), second, GDN(outputs, not analysis))


def _elu(*convs: nn.Module) -> nn.Sequential:
    return nn.Sequential(*(part for conv in convs for part in (conv, nn.ELU())))


class FourLevelVAE(LevelVAE):
    """large_level_4_vae, (196, 196, 128, 128) filters as published; every posterior is combined with its prior."""

    def __init__(self, filters: Sequence[int] = (196, 196, 128, 128), **options: Any) -> None:
        super().__init__(**options)
        self.filters = tuple(filters)
        a, b, c, d = self.filters
        self.analysis = nn.ModuleList([down(3, a), nn.Sequential(down(a, a), down(a, a))])
        self.infer_stages = nn.ModuleList(
            [
                nn.Identity(),
                _same(a, b, analysis=True),
                _elu(SignalConv(b, c, 3), SignalConv(c, c, 5, down=2)),
                _elu(SignalConv(c, d, 3), SignalConv(d, d, 3)),
            ]
        )
        self.infer_heads = nn.ModuleList(
            [
                Heads(3, a, a, 5, down=2),
                Heads(3, b, b, 3),
                Heads(3, c, c, 5, down=2, bias=False),
                Heads(2, d, d, 3),
            ]
        )
        self.image_skips = nn.ModuleList([SignalConv(a, a, 9, down=8), nn.Conv2d(a, b, 1), SignalConv(a, c, 5, down=4)])
        self.infer_skips = nn.ModuleList([nn.Conv2d(a, b, 1), SignalConv(a, c, 5, down=4), SignalConv(b, c, 5, down=4)])
        self.infer_joins = nn.ModuleList([Combiner(2 * a, a), Combiner(3 * b, b), Combiner(4 * c, c)])
        self.prior = TopPrior(d)
        self.stages = nn.ModuleList(
            [
                up_elu(d, d, 3, 1),
                up_elu(c, c, 5, 2),
                _same(b, b, analysis=False),
            ]
        )  # from level 4 to 3, from 3 to 2, from 2 to 1
        self.prior_heads = nn.ModuleList([Heads(3, d, c, 3, up=1), Heads(3, c, b, 3, up=1), Heads(3, b, a, 3, up=1)])
        self.skips = nn.ModuleList(
            [
                nn.Conv2d(d, c, 1),
                SignalConv(d, b, 5, up=4),
                SignalConv(c, b, 5, up=4),
                SignalConv(d, a, 5, up=4),
                SignalConv(c, a, 5, up=4),
                nn.Conv2d(b, a, 1),
            ]
        )  # from levels 4 to 3; 4 and 3 to 2; 4, 3 and 2 to 1
        self.joins = nn.ModuleList([Combiner(2 * d, d), Combiner(3 * c, c), Combiner(4 * b, b), Combiner(5 * a, a)])
        self.locs = nn.ModuleList(Combiner(2 * n, n) for n in reversed(self.filters))
        self.raws = nn.ModuleList(Combiner(2 * n, n) for n in reversed(self.filters))
        self.synthesis = nn.Sequential(up(a, a), up(a, a), up(a, a), SignalConv(a, 3, 5, up=2))
        self._grey_start()

    def infer(self, pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Location and raw scale of every level, from the top, to be combined with its prior."""
        first = self.analysis[0](pixels / 255)
        skip = self.image_skips[0](first)
        x, found, features = self.analysis[1](first), [], []
        for level in range(4):
            x = self.infer_stages[level](x)
            loc, raw, *more = self.infer_heads[level](x)
            found.append((loc, raw))
            features += more
            if level == 0:
                x = self.infer_joins[0](skip, features[0])
            elif level == 1:
                x = self.infer_joins[1](self.image_skips[1](skip), self.infer_skips[0](features[0]), features[1])
            elif level == 2:
                below = [f(v) for f, v in zip(self.infer_skips[1:], features[:2], strict=True)]
                x = self.infer_joins[2](self.image_skips[2](skip), *below, features[2])
        return found[::-1]

    def generate(
        self, found: Sequence[tuple[Tensor, Tensor]] | None, size: tuple[int, int, int], visit: Visit
    ) -> Tensor:
        batch, height, width = size
        loc, raw, above = self.prior((batch, height // 64, width // 64))
        features: list[Tensor] = []
        skips = iter(self.skips)
        for i in range(4):
            z = visit(i, normal(loc, raw), partial(self._posterior, i, found, loc, raw))
            x = self.joins[i](z, above, *(next(skips)(f) for f in features))
            features.append(above)
            if i < 3:
                loc, raw, above = self.prior_heads[i](self.stages[i](x))
        return self._image(x)

    def _posterior(self, i: int, found: Any, loc: Tensor, raw: Tensor) -> Normal:
        mine_loc, mine_raw = required(found)[i]
        return normal(self.locs[i](loc, mine_loc), self.raws[i](raw, mine_raw))

    def shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        levels = zip(self.filters, STRIDES, strict=True)
        return [(n, height // s, width // s) for n, s in levels][::-1]


def up_elu(inputs: int, outputs: int, kernel: int, by: int) -> nn.Sequential:
    """Two convolutions, the second up-sampling too, with ELU."""
    return _elu(SignalConv(inputs, outputs, kernel, up=by), SignalConv(outputs, outputs, kernel, up=by))
