"""Hyperprior over codes and codebooks of any size, against closed forms: entropies, densities, best clusterings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from core import checkpoint
from core.bitstream import BitstreamError
from core.codec import Image, TesseraError
from core.entropy import Decoder, Encoder
from core.registry import make_method
from vq.hyperprior import LARGEST, Hyperprior
from vq.vqvae.network import VQVAE
from vq.vqvae.quantizer import QuantizerError
from vq.vqvae.quantizers import EMAQuantizer, RateAdaptiveQuantizer
from vq.vqvae.quantizers.adaptive import clustered, merged, resized
from vq.vqvae.rate_adaptive import RateAdaptive
from vq.vqvae.sphere_methods import Leech


def hyperprior(sizes: tuple[int, ...], dim: int, seed: int = 0) -> Hyperprior:
    """A fresh one with random codewords, in eval mode."""
    torch.manual_seed(seed)
    prior = Hyperprior(sizes, dim).requires_grad_(False)
    for words in prior.words:
        words.normal_()
    return prior.eval()


def constant(sizes: tuple[int, ...], dim: int) -> Hyperprior:
    """One whose side information is always zero, at no cost, and says nothing."""
    prior = hyperprior(sizes, dim)
    for name, parameter in prior.named_parameters():
        parameter.data.zero_() if not name.startswith("gaussian.0.bias") else None
    prior.counts[:, LARGEST] = 2**30
    return prior


def some_codes(sizes: tuple[int, ...], height: int, width: int) -> Tensor:
    draw = np.random.default_rng(0)
    return torch.from_numpy(draw.integers(0, sizes, (height, width, len(sizes)))).permute(2, 0, 1)


def test_constant_hyperprior_codes_at_the_entropy_of_the_marginal() -> None:
    """With dyadic shares, N H bits to the rounding of tables, in floats, in whole numbers, and in the payload."""
    shares = torch.tensor([0.5, 0.25, 0.125, 0.125])
    prior = constant((4,), 3)
    prior.gaussian[0].bias.data.zero_()
    prior.bias[0].data.copy_(shares.log())
    codes = torch.arange(4).repeat_interleave((shares * 256).long())[torch.randperm(256)].view(1, 16, 16)
    encoder = Encoder()
    prior.fixed().encode(codes.numpy(), encoder)
    payload = encoder.finish()
    assert prior.bits(codes[None]) == pytest.approx(256 * 1.75, rel=1e-4)
    assert prior.fixed().bits(codes.numpy()) == pytest.approx(256 * 1.75, rel=2e-3)
    assert 256 * 1.75 - 8 <= 8 * len(payload) <= 256 * 1.75 + 40


def test_shares_are_a_gaussian_density_at_the_codewords() -> None:
    """Of mean m and variance s**2 in each dimension, normalised over the codes."""
    prior, dim = constant((6,), 3), 3
    mean, deviation = torch.tensor([0.5, -1.0, 0.0]), torch.tensor([0.7, 2.0, 1.0])
    prior.gaussian[0].bias.data.copy_(torch.cat([mean / deviation**2, deviation**-2]))
    density = Normal(mean, deviation).log_prob(prior.words[0]).sum(1)
    (found,) = prior.log_shares(torch.zeros(1, 1, 4, 4, dtype=torch.int64))
    torch.testing.assert_close(found[0, 2, 1], density.log_softmax(0))
    assert prior.dim == dim


@pytest.mark.parametrize(("sizes", "height", "width"), [((16,), 9, 11), ((16, 5), 4, 4), ((3, 7, 4), 1, 2)])
def test_whole_numbers_agree_with_floats_and_decode(sizes: tuple[int, ...], height: int, width: int) -> None:
    prior, codes = hyperprior(sizes, 8), some_codes(sizes, height, width)
    prior.counts += 5
    for books in range(1, len(sizes) + 1):
        fixed, few = prior.fixed(), codes[:books]
        encoder = Encoder()
        fixed.encode(few.numpy(), encoder)
        payload = encoder.finish()
        assert fixed.bits(few.numpy()) == pytest.approx(prior.bits(few[None]), rel=0.01)
        assert 8 * len(payload) == pytest.approx(fixed.bits(few.numpy()), abs=64)
        assert np.array_equal(fixed.decode((books, height, width), Decoder(payload)), few.numpy())


def test_hyperprior_learns_what_an_image_has_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of codes 0 to 3 or of codes 4 to 7: 3 bits a code without side information, 2 with one bit an image."""
    monkeypatch.setattr("vq.prior.POSITIONS", 1024)
    draw = torch.Generator().manual_seed(0)
    kind = torch.randint(2, (256, 1, 1, 1), generator=draw)
    codes = 4 * kind + torch.randint(4, (256, 1, 8, 8), generator=draw)
    torch.manual_seed(0)
    prior = Hyperprior((8,), 4)
    prior.fit([codes[:192]], [torch.eye(8)[:, :4] - torch.eye(8)[:, 4:]])
    bits = prior.bits(codes[192:]) / codes[192:].numel()
    assert 2 <= bits < 2.4
    fixed = prior.fixed()
    whole = sum(fixed.bits(c.numpy()) for c in codes[192:]) / codes[192:].numel()
    assert whole == pytest.approx(bits, rel=0.01)


def test_a_prior_is_added_to_weights_and_others_are_refused() -> None:
    """Training begins with everything but the prior; weights without the prior that is asked for say so."""
    plain, hyper = (
        make_method("vqvae_ema", {"prior": p, "size": 8, "hidden": (4,), "dim": 4}) for p in (True, "hyper")
    )
    stored = plain.model().state_dict()
    model = hyper.adopt(stored)  # type: ignore[attr-defined]
    assert isinstance(model, VQVAE) and isinstance(model.prior, Hyperprior)
    assert all(torch.equal(v, stored[k]) for k, v in model.state_dict().items() if not k.startswith("prior."))
    for state, words in ((stored, "prior=True, not prior=hyper"), (model.encoder.state_dict(), "no prior")):
        with pytest.raises(TesseraError, match=words):
            hyper.read_state(state)
    with pytest.raises(TesseraError, match="do not fit"):
        hyper.at(16).adopt(stored)  # type: ignore[attr-defined]
    with pytest.raises(TesseraError, match="one of False, True, hyper"):
        make_method("fsq", {"prior": "other"}).model()
    with pytest.raises(QuantizerError, match="no sums of codewords"):
        Leech(prior="hyper", dim=8).model()


# Codebooks of any size


def error(vectors: np.ndarray, weights: np.ndarray, centres: np.ndarray, labels: np.ndarray) -> float:
    return float((weights * np.square(vectors - centres[labels]).sum(1)).sum())


def best_error(values: np.ndarray, weights: np.ndarray, size: int) -> float:
    """The least weighted squared error of ``size`` clusters on a line, by dynamic programming over sorted values."""
    order = np.argsort(values)
    x, w = values[order], weights[order]
    n = len(x)
    cost = np.full((n + 1, n + 1), np.inf)
    for i in range(n):
        for j in range(i + 1, n + 1):
            mean = np.average(x[i:j], weights=w[i:j])
            cost[i, j] = (w[i:j] * np.square(x[i:j] - mean)).sum()
    best = np.append(0.0, np.full(n, np.inf))
    for _ in range(size):
        best = np.append(np.inf, (best[:, None] + cost).min(0)[1:])
    return float(best[n])


def test_clusters_are_near_the_best_and_no_better() -> None:
    """On a line, where the best clustering is known; and Ward's error grows with every union, Lloyd's is not above."""
    draw = np.random.default_rng(3)
    values, weights = np.rint(draw.normal(0, 5000, 24)), draw.integers(1, 50, 24).astype(float)
    vectors, before = values[:, None], 0.0
    for size in range(23, 1, -1):
        labels = merged(vectors, weights, size)
        means = np.array([np.average(values[labels == k], weights=weights[labels == k]) for k in range(size)])[:, None]
        ward = error(vectors, weights, means, labels)
        mine = error(vectors, weights, *clustered(vectors, weights, size))
        least = best_error(values, weights, size)
        assert before <= ward and least - 1e-6 <= mine <= ward + weights.sum() / 4, "centres are whole numbers"
        assert mine <= 1.5 * least + weights.sum() / 4
        before = ward


def test_known_clusters_have_their_weighted_means() -> None:
    vectors = np.array([[0.0, 0], [100, 8], [1000, 1000], [1004, 1000], [0, 4]])
    weights = np.array([3.0, 1, 1, 3, 1])
    centres, labels = clustered(vectors, weights, 2)
    assert labels.tolist() == [0, 0, 1, 1, 0] and centres.tolist() == [[20, 2], [1003, 1000]]
    codebook, own = resized(torch.tensor(vectors), torch.tensor(weights), 5)
    assert torch.equal(codebook, torch.tensor(vectors)) and own.tolist() == [0, 1, 2, 3, 4]


def pictures(n: int, seed: int) -> list[Image]:
    draw = np.random.default_rng(seed)
    return [np.kron(draw.integers(0, 256, (6, 6, 1)), np.ones((2, 2, 1))).astype(np.uint8) for _ in range(n)]


def adaptive(size: int = 32) -> tuple[RateAdaptive, VQVAE]:
    """A model whose codebook is made of latents of pictures, calibrated on them."""
    torch.manual_seed(0)
    method = RateAdaptive(size=size, max_size=32, hidden=(8,), dim=4)
    model = method.model().eval()
    planes = torch.cat([model.planes(image) for image in pictures(20, 0)])
    rows = model.encoder(planes - 0.5).detach().permute(0, 2, 3, 1).reshape(-1, 4)
    quantizer = model.quantizer
    assert isinstance(quantizer, RateAdaptiveQuantizer)
    quantizer.codebook.copy_(rows[torch.randperm(len(rows))[:32]])
    model.calibrate(pictures(20, 0))
    return method, model


def test_the_whole_codebook_gives_the_plain_codes(tmp_path: Path) -> None:
    """At the trained size codes and pictures are those of ``vqvae_ema`` with the same weights."""
    method, model = adaptive()
    plain = make_method("vqvae_ema", {"size": 32, "hidden": (8,), "dim": 4})
    other = plain.model()
    other.load_state_dict(model.state_dict())
    codecs = method.codec(model), plain.codec(other.eval())
    for image in pictures(3, 1):
        mine, theirs = (codec.codes(image) for codec in codecs)  # type: ignore[attr-defined]
        assert np.array_equal(mine[0], theirs[0])
        decoded = [codec.decompress(codec.compress(image)) for codec in codecs]
        assert np.array_equal(*decoded)
    checkpoint.save(tmp_path, other, {"method": "vqvae_ema"})
    adopted = method.adopt(checkpoint.read(tmp_path / "weights.safetensors"))
    assert torch.equal(adopted.quantizer.codebook, other.quantizer.codebook)  # type: ignore[arg-type]


def test_the_stream_says_its_size_and_every_size_reads_it() -> None:
    method, model = adaptive()
    image, sizes = pictures(1, 2)[0], (2, 7, 16, 31, 32)
    codecs = {size: method.at(size).codec(model) for size in sizes}
    streams = {size: codec.compress(image) for size, codec in codecs.items()}  # type: ignore[attr-defined]
    for size, stream in streams.items():
        assert method.stream_point(stream) == size
        pictures_found = [codec.decompress(stream) for codec in codecs.values()]  # type: ignore[attr-defined]
        assert all(np.array_equal(picture, pictures_found[0]) for picture in pictures_found)
        assert int(max(c.max() for c in codecs[size].codes(image))) < size  # type: ignore[attr-defined]
    for size in (1, 33, True):
        with pytest.raises(QuantizerError, match="from 2 to 32"):
            method.at(size).codec(model)
    codec = codecs[32]
    codec.head = b"\xff"  # type: ignore[attr-defined]
    with pytest.raises(BitstreamError, match="damaged"):
        codecs[7].decompress(codec.compress(image))  # type: ignore[attr-defined]
    with pytest.raises(QuantizerError, match="has no prior"):
        RateAdaptive(prior=True).model()


def test_smaller_codebooks_are_worse_and_their_codes_are_counted() -> None:
    method, model = adaptive()
    planes = torch.cat([model.planes(image) for image in pictures(20, 0)])
    rows = model.encoder(planes - 0.5).detach().permute(0, 2, 3, 1)
    errors = []
    for size in (32, 16, 8, 4, 2):
        at = method.at(size).codec(model).model  # type: ignore[attr-defined]
        assert isinstance(at.quantizer, EMAQuantizer) and len(at.counts[0]) == size
        assert int(at.counts[0].sum()) == int(model.counts[0].sum())
        errors.append(float((rows - at.quantizer(rows).quantized).square().sum()))
    assert errors == sorted(errors) and errors[0] < errors[-1] / 2


def test_training_passes_on_vectors_of_smaller_codebooks() -> None:
    """Half of the steps have the whole codebook, the others fewer vectors; in eval mode all."""
    torch.manual_seed(0)
    quantizer, rows = RateAdaptiveQuantizer(2, 64, init="kmeans"), torch.randn(600, 2)
    quantizer(rows)
    sizes = [len(torch.unique(quantizer(rows).quantized.detach().round(decimals=4), dim=0)) for _ in range(40)]
    assert 8 < sum(size > 50 for size in sizes) < 36 and min(sizes) < 16
    assert len(torch.unique(quantizer.eval()(rows).quantized.round(decimals=4), dim=0)) > 50
