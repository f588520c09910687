"""Weights and pictures that are no numbers: refused when loaded, on encode and on decode, in every family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core import checkpoint
from core.codec import TesseraError
from core.finite import NumbersError, check_weights, checked_counts, checked_latents
from core.planes import to_image
from core.registry import discover, make_method

discover()
FAMILIES = {
    "qres3m_vr": {},
    "qres34m_lossless": {},
    "vqvae": {"prior": True},
    "rvq": {},
    "lattice_e8": {},
    "llvq_sparse": {},
    "mcquic_small": {},
    "irec2_small": {"coder": "irec_importance"},
    "rvae_small": {"coder": "irec_importance"},
}
LARGE = ("qres34m_lossless",)
IMAGE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


def model_of(name: str) -> tuple[object, nn.Module]:
    torch.manual_seed(0)
    method = make_method(name, FAMILIES[name])
    return method, method.model().eval()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30])
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in LARGE])
def test_one_unusable_weight_is_refused_when_loaded(name, bad, tmp_path):
    method, model = model_of(name)
    floats = [key for key, value in model.state_dict().items() if value.is_floating_point() and value.numel()]
    last = floats[-1]
    model.state_dict()[last].view(-1)[0] = bad
    found = checkpoint.save(tmp_path, model, {"method": name})
    with pytest.raises(NumbersError, match=f"holds numbers in {last}") as caught:
        checkpoint.load(method, found)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_weights_that_overflow_are_refused_before_there_is_a_stream_or_a_picture(name):
    """Each number may be a weight; together they are no network: encoder, decoder or both say so."""
    method, model = model_of(name)
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.requires_grad:
            parameter.data.add_(0.1).mul_(1e9)
    with pytest.raises(TesseraError) as caught:
        codec = method.codec(model)
        codec.decompress(codec.compress(IMAGE))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["qres3m_vr", "vqvae", "lattice_e8", "mcquic_small", "irec2_small"])
def test_a_decoder_that_gives_no_picture_is_refused(name):
    """The encoder cannot know: the stream is good, the picture would be black."""
    method, model = model_of(name)
    last = {"qres3m_vr": "decoder.dec_blocks", "irec2_small": "synthesis", "vqvae": "decoder"}.get(name, "_decoder")
    codec = method.codec(model)
    stream = codec.compress(IMAGE)
    [p for key, p in model.named_parameters() if key.startswith(last)][-1].data.fill_(torch.nan)
    broken = method.codec(model)
    broken.fingerprint = codec.fingerprint
    with pytest.raises(NumbersError, match="the network gave a picture"):
        broken.decompress(stream)


def test_no_picture_becomes_8_bits():
    for wrong in (torch.nan, torch.inf, 1e4):
        planes = torch.full((1, 3, 4, 4), 0.5)
        planes[0, 1, 2, 3] = wrong
        with pytest.raises(NumbersError, match="a picture"):
            to_image(planes, 4, 4, 3)
    assert to_image(torch.full((1, 3, 4, 4), 2.0), 4, 4, 3).min() == 255


def test_what_is_checked():
    x = torch.tensor([[-1e6, 0.0], [1e6, 1.0]])
    assert checked_latents(x) is x and checked_latents(torch.zeros(0)).numel() == 0
    check_weights({"a": torch.tensor([1e18, -1e18]), "b": torch.tensor([2**62])}, "w")
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        with pytest.raises(NumbersError, match="numbers in b"):
            check_weights({"a": torch.ones(1), "b": torch.tensor([0, torch.nan]).to(dtype)}, "w")
    assert checked_counts(torch.tensor([0, 2**40]), "counts").tolist() == [0, 2**40]
    for wrong in (torch.tensor([1, -1]), torch.tensor([0, 2**41]), torch.tensor([1.0, torch.nan])):
        with pytest.raises(NumbersError, match="counts in the weights hold numbers that are negative or no counts"):
            checked_counts(wrong, "counts")


@pytest.mark.parametrize(
    ("name", "buffer", "value"),
    [
        ("vqvae", "counts0", -1),
        ("rvq", "counts2", 2**62),
        ("lattice_e8", "coder.counts", -5),
        ("lattice_e8", "coder.common_counts", -1),
        ("lattice_e8", "coder.shift", -1),
        ("llvq_sparse", "coder.offset", 2**50),
        ("mcquic_small", "_quantizer._entropyCoder._freqEMA.1", -3.0),
        ("mcquic_small", "_quantizer._entropyCoder._freqEMA.0", 0.0),  # all of them
    ],
)
def test_impossible_counts_are_one_sentence(name, buffer, value, tmp_path):
    method, model = model_of(name)
    tensor = model.state_dict()[buffer]
    tensor.view(-1)[: tensor.numel() if value == 0.0 else 1] = value
    found = checkpoint.save(tmp_path, model, {"method": name})
    with pytest.raises(TesseraError) as caught:
        method.codec(checkpoint.load(method, found)).compress(IMAGE)
    assert "weights" in str(caught.value) and "\n" not in str(caught.value)


def test_a_prior_beyond_exact_arithmetic_is_refused():
    method, model = model_of("vqvae")
    model.prior.heads[0].weight.data[0] = 1e9
    with pytest.raises(NumbersError, match="too large for exact arithmetic"):
        method.codec(model)


def test_the_command_writes_no_stream_no_picture_and_no_cell(command, pictures, tmp_path):
    torch.manual_seed(0)
    model = make_method("qres3m_vr").model()
    good = checkpoint.save(tmp_path / "good", model, {"method": "qres3m_vr"})
    next(p for n, p in model.named_parameters() if n.endswith("out_net.bias") or "dec_blocks" in n).data[...] = (
        torch.nan
    )
    checkpoint.save(tmp_path / "bad", model, {"method": "qres3m_vr"})
    assert good.path.exists()
    done = command("qres", "compress", "with", "weights=bad", "input=pictures/0.png", "output=out.tsr")
    assert done.code == 2 and "not finite" in done.err and not Path("out.tsr").exists()
    assert command("qres", "compress", "with", "weights=good", "input=pictures/0.png", "output=out.tsr").code == 0
    done = command("qres", "decompress", "with", "weights=bad", "input=out.tsr", "output=out.png")
    assert done.code == 2 and "not finite" in done.err and not Path("out.png").exists()
    done = command("qres", "evaluate", "with", "weights=bad", "dataset=folder:pictures", "points=64")
    assert done.code == 2 and "not finite" in done.err and not list(Path("results").glob("cells/*"))
