"""Later quantisers against closed forms: signs and groups on the sphere, Leech's minimal vectors, scaled residuals."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from vq.vqvae import quantizers as q
from vq.vqvae.quantizer import QuantizerError
from vq.vqvae.quantizers.spherical import MINIMAL, NORM, minimal_vectors, nearest_minimal


def rows(n: int, dim: int, seed: int = 1) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_signs_on_the_sphere_are_near() -> None:
    """|u - q(u)|^2 = 2 - 2 |u|_1 / sqrt(L), at most 2 - 2 / sqrt(L) and reached on an axis (BSQ, section 4)."""
    bsq, z = q.BSQ(9).eval(), torch.cat([rows(500, 9), torch.eye(9)])
    out, units = bsq(z), F.normalize(z, dim=1)
    far = (units - out.quantized).square().sum(1)
    torch.testing.assert_close(far, 2 - 2 * units.abs().sum(1) / 3)
    assert float(far.max()) == pytest.approx(2 - 2 / 3, abs=1e-5) and torch.allclose(
        out.quantized.norm(dim=1), torch.ones(len(z))
    )
    assert torch.equal(bsq(5 * z).codes, out.codes), "lengths are not coded"


def test_soft_signs_are_those_of_the_whole_codebook() -> None:
    """The entropy of one row is that of the softmax of -t |u - c|^2 over all 2^L codes."""
    bits, sharpness = 5, 2.0
    bsq, z = q.BSQ(bits, entropy=1.0, sharpness=sharpness), rows(1, bits)
    loss = float(bsq(z.expand(7, -1)).loss)  # equal rows: their own entropy and that of the mean cancel
    assert loss == pytest.approx(0, abs=1e-5)
    codes = bsq.lookup(torch.arange(2**bits)[:, None])
    soft = torch.softmax(-sharpness * (F.normalize(z, dim=1) - codes).square().sum(1), 0)
    ones = torch.sigmoid(4 * sharpness * bits**-0.5 * F.normalize(z, dim=1))[0]
    whole = -torch.xlogy(soft, soft).sum()
    torch.testing.assert_close(whole, -(torch.xlogy(ones, ones) + torch.xlogy(1 - ones, 1 - ones)).sum())


def test_groups_share_one_codebook_and_start_on_the_sphere() -> None:
    torch.manual_seed(0)
    gsq = q.GroupedSpherical(3, 4, 8)
    torch.testing.assert_close(gsq.shared.codebook.norm(dim=1), torch.ones(8))
    part = rows(50, 4)
    out = gsq.eval()(part.repeat(1, 3))
    assert torch.equal(out.codes[:, 0], out.codes[:, 1]) and torch.equal(out.codes[:, 0], out.codes[:, 2])
    cosines = F.normalize(part, dim=1) @ gsq.shared.vectors().T
    assert torch.equal(out.codes[:, 0], cosines.argmax(1)), "nearest in angle, whatever the lengths"
    assert [name for name, _ in gsq.named_parameters()] == ["shared.codebook"]


def test_minimal_vectors_are_leechs() -> None:
    """196,560 of them, of norm 32, in pairs of opposites, with the inner products 0, 8, 16, 32 of either sign."""
    vectors = minimal_vectors().long()
    assert len(torch.unique(vectors, dim=0)) == MINIMAL == 196_560
    assert vectors.square().sum(1).unique().tolist() == [32] and not vectors.sum(0).any()
    for first in (0, 100_000, MINIMAL - 1):
        found, counts = (vectors @ vectors[first]).unique(return_counts=True)
        assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == {
            -32: 1, -16: 4600, -8: 47_104, 0: 93_150, 8: 47_104, 16: 4600, 32: 1
        }  # fmt: skip


@pytest.mark.parametrize("shape", ["round", "positive", "few large", "long tail"])
def test_search_of_minimal_vectors_is_exhaustive(shape: str) -> None:
    """Each of the three forms of vectors wins somewhere."""
    y = rows(60, 24).double()
    y = {"round": y, "positive": y.abs(), "few large": y**5, "long tail": y * torch.logspace(0, -3, 24)}[shape]
    y = F.normalize(y, dim=1)
    scores = y @ minimal_vectors().double().T
    assert torch.equal(nearest_minimal(y), scores.argmax(1))


def test_minimal_vectors_are_coded_as_themselves() -> None:
    leech = q.LeechSpherical().eval()
    chosen = torch.arange(0, MINIMAL, 97)
    vectors = minimal_vectors()[chosen].float()
    out = leech(3 * vectors)
    assert torch.equal(out.codes[:, 0] * 360 + out.codes[:, 1], chosen)
    torch.testing.assert_close(out.quantized, vectors / NORM)
    with pytest.raises(QuantizerError, match="outside"):
        leech.lookup(torch.tensor([[546, 0]]))


def test_leechs_vectors_are_denser_on_the_sphere_than_signs() -> None:
    """At 17.6 bits they leave less error of a random direction than 18 signs in 24 dimensions, and than 24 signs."""
    u = F.normalize(rows(400, 24), dim=1)
    error = (q.LeechSpherical().eval()(u).quantized - u).square().sum(1).mean()
    signs = (q.BSQ(24).eval()(u).quantized - u).square().sum(1).mean()
    best_length = 2 - 2 * math.sqrt(24) * stats.chi(1).mean() / stats.chi(24).mean()  # E of 2 - 2 |u|_1 / sqrt(24)
    assert float(signs) == pytest.approx(best_length, rel=0.02)
    assert float(error) < 1.3 * float(signs), "with 17.6 bits in place of 24"


def test_the_even_bound_spreads_normal_latents() -> None:
    """The law of tanh(0.8 z) is within 0.02 of the uniform one; that of tanh(z) is 2.5 times as far."""
    y = torch.linspace(-0.999, 0.999, 2001).double()
    far = {}
    for slope in (0.8, 1.0):
        law = torch.from_numpy(stats.norm.cdf((torch.atanh(y) / slope).numpy()))
        far[slope] = float((law - (y + 1) / 2).abs().max())
    assert far[0.8] < 0.02 < 2.5 * far[0.8] < far[1.0]
    z = rows(20_000, 1)
    shares = [torch.bincount(q.FSQ((9,), slope=s)(z).codes[:, 0], minlength=9) / len(z) for s in (0.8, 1.0)]
    inner = [share[1:-1] for share in shares]  # the outer levels are half as wide
    assert inner[0].std() < 0.5 * inner[1].std()
    sigmoid = 2 * torch.sigmoid(1.6 * z) - 1
    torch.testing.assert_close(torch.tanh(0.8 * z), sigmoid, rtol=1e-5, atol=1e-6)


def test_scaled_residuals_keep_their_range() -> None:
    """The fourth stage of RFSQ still says three bits and more; without scaling it says nothing."""
    errors, bits = {}, {}
    for name, wrap in (("rfsq", q.Standardised), ("plain", lambda inner: inner)):
        stages = q.ResidualQuantizer([wrap(q.FSQ((3, 3, 3))) for _ in range(4)])
        for step in range(100):
            stages(rows(500, 3, seed=step))
        out, z = stages.eval()(rows(2000, 3)), rows(2000, 3)
        errors[name] = [float((z - stages.lookup(out.codes[:, :used])).square().mean()) for used in (1, 2, 3, 4)]
        bits[name] = float(out.stats["perplexity"][3].log2())
    assert bits["rfsq"] > 3 and bits["plain"] < 0.2
    assert all(after < 0.7 * before for before, after in zip(errors["rfsq"], errors["rfsq"][1:], strict=False))
    assert errors["rfsq"][3] < 0.4 * errors["plain"][3]


def test_scaling_is_inverted_and_fixed_after_training() -> None:
    stage = q.Standardised(q.FSQ((7, 7)))
    stage(5 * rows(300, 2) + 3)
    assert torch.allclose(stage.mean, torch.full((2,), 3.0), atol=0.6) and torch.allclose(
        stage.variance, torch.full((2,), 25.0), rtol=0.2
    )
    stage.eval()
    before = stage.mean.clone()
    out = stage(rows(300, 2))
    assert torch.equal(stage.mean, before)
    torch.testing.assert_close(stage.lookup(out.codes), out.quantized)
