"""Tests of growth: the larger network computes what the small one did, and can learn from there."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from core.codec import Adopts, TesseraError
from core.registry import discover, make_method
from qres.architectures import Architecture
from qres.blocks import Latent
from qres.grow import grow
from qres.likelihood import train_log_likelihood
from qres.network import QResVAE

SMALL = Architecture(
    (("patch", 8, 4), ("cnx", 8, 3), ("down", 8, 16, 2), ("cnx", 16, 3)),
    (("latent", 16, 4, 1), ("up", 16, 8, 2), ("latent", 8, 3, 3), ("up", 8, 3, 4)),
    -0.45, 3.7, embedding=6, gamma=0.1, least=8,
)  # fmt: skip
LARGE = Architecture(
    (("patch", 24, 4), *(("cnx", 24, 7),) * 2, ("down", 24, 32, 2), *(("cnx", 32, 5),) * 2, ("down", 32, 32, 2)),
    (
        ("latent", 32, 5, 1), ("up", 32, 32, 2), *(("latent", 32, 4, 3),) * 2, ("up", 32, 24, 2),
        *(("latent", 24, 3, 5),) * 2, ("up", 24, 3, 4),
    ),
    -0.45, 3.7, embedding=10, gamma=0.1, least=8,
)  # fmt: skip


def network(arch: Architecture, seed: int) -> QResVAE:
    """A network of which every parameter has been moved from where it starts, in eval mode."""
    torch.manual_seed(seed)
    net = QResVAE(arch, 64, (16, 256)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def wholly(net: QResVAE, lmb: float) -> tuple[float, float]:
    """Bits and distortion of some pictures."""
    net.lmb = lmb
    with torch.no_grad():
        step = net(torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)))
    return float(step.bits), float(step.distortion)


@pytest.mark.parametrize("lmb", (16.0, 50.0, 256.0))
def test_the_grown_network_computes_the_same(lmb: float) -> None:
    torch.manual_seed(3)
    small, large = network(SMALL, 0), grow(network(SMALL, 0), QResVAE(LARGE, 64, (16, 256)).eval())
    assert wholly(large, lmb) == pytest.approx(wholly(small, lmb), rel=0.01)


def test_every_parameter_of_it_learns_and_copies_part() -> None:
    torch.manual_seed(3)
    large = grow(network(SMALL, 0), QResVAE(LARGE, 64, (16, 256)))
    large.straight_through = True
    optimizer = torch.optim.Adam(large.parameters(), lr=1e-3)
    before = {name: value.detach().clone() for name, value in large.named_parameters()}
    for seed in range(6):  # where a layer is silent at first, what it reads has a gradient from the next step on
        torch.manual_seed(seed)
        optimizer.zero_grad()
        large.train()(torch.rand(2, 3, 32, 32)).loss.backward()
        optimizer.step()
    assert [name for name, value in large.named_parameters() if torch.equal(value, before[name])] == []
    first = large.get_parameter("encoder.enc_blocks.0.weight")
    assert torch.equal(before["encoder.enc_blocks.0.weight"][:8], before["encoder.enc_blocks.0.weight"][8:16])
    assert not torch.equal(first[:8], first[8:16])


def test_latents_narrower_than_the_small_ones_are_the_ones_that_matter() -> None:
    small = network(SMALL, 0)
    with torch.no_grad():
        small.get_parameter("decoder.dec_blocks.0.z_proj.0.weight")[:, 1] = 0  # nobody listens to it
    decoder = list(LARGE.decoder)
    decoder[2] = decoder[3] = ("latent", 32, 3, 3)
    large = grow(small, QResVAE(replace(LARGE, decoder=tuple(decoder)), 64, (16, 256)).eval())
    assert wholly(large, 64.0)[1] == pytest.approx(wholly(small, 64.0)[1], rel=0.01)


def test_what_cannot_grow_is_said() -> None:
    wider = (("patch", 20, 4), *(("cnx", 20, 7),) * 2, ("down", 20, 32, 2), *LARGE.encoder[4:])
    more = (*LARGE.decoder[:5], ("latent", 24, 5, 5), *LARGE.decoder[6:])
    fewer = (*LARGE.decoder[:5], LARGE.decoder[-1])
    for arch, words in (
        (replace(LARGE, encoder=wider), "a width of 20 is no multiple of 8"),
        (replace(LARGE, decoder=more), "of 5 channels cannot be grown from one of 3"),
        (replace(LARGE, decoder=fewer), "no place for: latent at stride 4"),
    ):
        with pytest.raises(TesseraError, match=words):
            grow(network(SMALL, 0), QResVAE(arch, 64, (16, 256)))


def test_a_prior_that_drifts_stays_finite() -> None:
    """In training nothing keeps a raw log-scale small where a latent is hardly used."""
    raw = torch.tensor([-200.0, 0.0, 5.0, 60.0, 1e4]).view(1, 5, 1, 1)
    prior = Latent.bounded(torch.cat([raw, raw], dim=1))
    assert prior.scale.isfinite().all() and float(prior.scale[0, 2]) == pytest.approx(math.exp(5), rel=1e-3)
    assert train_log_likelihood(raw.clamp(-50, 50), prior.scale, 1.0).isfinite().all()
    small = network(SMALL, 0)
    with torch.no_grad():
        small.get_parameter("decoder.dec_blocks.2.prior.c4.bias")[3:] = 1e4
    assert all(map(math.isfinite, wholly(small, 64.0)))


def test_the_published_blocks_take_the_small_models_weights_and_their_own() -> None:
    discover()
    method, small = make_method("qres34m_vr"), make_method("qres3m_vr")
    assert isinstance(method, Adopts)
    torch.manual_seed(0)
    start = small.model()
    grown = method.adopt(start.state_dict())
    again = method.adopt(grown.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(grown.state_dict().values(), again.state_dict().values(), strict=True))
    with pytest.raises(TesseraError, match="neither of qres34m_vr nor of qres3m_vr"):
        method.adopt({"encoder.enc_blocks.0.weight": torch.zeros(2)})
