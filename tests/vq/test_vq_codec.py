"""The VQ-VAE family as codecs: real streams, counts that travel with weights, the prior, and training to the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from core import checkpoint, fingerprints
from core.bitstream import BitstreamError
from core.checkpoint import CheckpointError, Weights
from core.codec import Codec, HasCodes, HasEstimate, HasPayload, Image, TesseraError
from core.entropy import Decoder, Encoder
from core.registry import make_method
from core.train import TrainConfig, fit
from tests.conftest import Command
from vq.prior import Prior, logit_frequencies, waves
from vq.vqvae.methods import FiniteScalar, MovingAverage, Product, Residual, VQMethod
from vq.vqvae.network import VQVAE
from vq.vqvae.quantizer import QuantizerError

NAMES = ("vqvae", "vqvae_cosine", "vqvae_ema", "vqvae_rot", "vqvae_ec", "simvq", "rvq", "pq", "fsq", "lfq")
PRIORS = (("rvq", True), ("fsq", True), ("vqvae_ema", "hyper"), ("pq", "hyper"))
SMALL = {"hidden": (8,), "dim": 8}


def pictures(n: int = 40, side: int = 16, channels: int = 1, seed: int = 0) -> list[Image]:
    """Blurred blobs on black, as uint8 (side, side, channels)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side][..., None]
    centres = rng.uniform(0, side, (n, 2, channels))
    return [(250 * np.exp(-((y - c[0]) ** 2 + (x - c[1]) ** 2) / 12)).astype(np.uint8) for c in centres]


def trained(method: VQMethod, folder: Path, steps: int = 30) -> VQVAE:
    """The method's model after a few steps on blobs, calibrated on them."""
    images = pictures(channels=method.channels)
    tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    torch.manual_seed(0)
    config = TrainConfig(steps, batch=8, lr=5e-3, warmup=1, ema=0.5)
    model = fit(method.model(), lambda step, share: tensor[[(8 * step + k) % 40 for k in share]], config, folder)
    assert isinstance(model, VQVAE)
    model.calibrate(images)
    return model


@cache
def ready(name: str, prior: bool | str = False) -> tuple[VQMethod, VQVAE]:
    """A small trained model of every method, made once."""
    import tempfile

    method = make_method(name, SMALL | {"prior": prior})
    assert isinstance(method, VQMethod)
    with tempfile.TemporaryDirectory() as folder:
        return method, trained(method, Path(folder))


@pytest.mark.parametrize(("name", "prior"), [*((name, False) for name in NAMES), *PRIORS])
def test_streams(name: str, prior: bool | str) -> None:
    method, model = ready(name, prior)
    codec = method.codec(model)
    assert isinstance(codec, Codec) and isinstance(codec, HasCodes)
    assert isinstance(codec, HasEstimate) and isinstance(codec, HasPayload)
    rng = np.random.default_rng(1)
    for image in (*pictures(2, seed=5), rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)):
        stream = codec.compress(image)
        decoded = codec.decompress(stream)
        assert decoded.shape == image.shape and np.array_equal(decoded, codec.decompress(codec.compress(image)))
        codes = codec.codes(image)
        assert len(codes) == len(codec.codebook_sizes) and codes[0].shape[0] == image.shape[2]
        planes = np.stack(codes, axis=1)  # decoding the codes themselves gives the decoded image
        again = model.decode(torch.from_numpy(planes)).clamp(0, 1).mul(255).round().byte()[:, 0].permute(1, 2, 0)
        assert np.array_equal(again.numpy()[: image.shape[0], : image.shape[1]], decoded)
        assert abs(codec.payload_bits(stream) - codec.bits(image)) <= max(64, 0.02 * codec.bits(image))


@pytest.mark.parametrize("name", NAMES)
def test_training_improves_every_method(name: str) -> None:
    """Trained a little, each beats its own fresh weights by far."""
    method, model = ready(name)
    torch.manual_seed(0)
    fresh = method.model()
    images = pictures(10, seed=9)

    def error(net: VQVAE) -> float:
        codec = method.codec(net)
        decoded = [codec.decompress(codec.compress(image)).astype(float) for image in images]
        return float(np.mean([np.square(d - i).mean() for d, i in zip(decoded, images, strict=True)]))

    assert error(model) < 0.6 * error(fresh)


def test_counts_make_shorter_streams_and_travel_with_the_weights(tmp_path: Path) -> None:
    method, model = ready("vqvae_ema")
    assert int(model.counts[0].sum()) == 40 * 8 * 8, "one code for each 2 x 2 of 40 images"
    checkpoint.save(tmp_path, model, {"method": method.name})
    loaded = checkpoint.load(method, checkpoint.find(method, str(tmp_path)) or Weights(tmp_path, "", ""))
    image = pictures(1, seed=7)[0]
    stream = method.codec(model).compress(image)
    assert method.codec(loaded).compress(image) == stream
    loaded.counts[0].zero_()
    even = method.codec(loaded)
    assert len(stream) < len(even.compress(image))
    with pytest.raises(BitstreamError, match="another method or checkpoint"):
        even.decompress(stream)


def test_rgb_models_and_grey_images() -> None:
    method = MovingAverage(size=8, channels=3, **SMALL)  # type: ignore[arg-type]
    codec = method.codec(method.model())
    for shape in ((9, 5, 3), (9, 5, 1), (1, 1, 3)):
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        assert codec.decompress(codec.compress(image)).shape == shape


def test_one_set_of_weights_serves_all_stages() -> None:
    method, model = ready("rvq")
    assert isinstance(method, Residual)
    image = pictures(1, seed=3)[0]
    codecs = [replace(method, stages=n).codec(model) for n in (1, 2, 3, 4)]
    streams = [codec.compress(image) for codec in codecs]
    errors = [np.square(c.decompress(s).astype(float) - image).mean() for c, s in zip(codecs, streams, strict=True)]
    assert errors[3] < errors[0] and len(streams[3]) > len(streams[0])
    assert [len(codec.codebook_sizes) for codec in codecs] == [1, 2, 3, 4]
    with pytest.raises(BitstreamError):
        codecs[1].decompress(streams[0])
    with pytest.raises(QuantizerError, match="1 to 4"):
        replace(method, stages=5).codec(model)


def test_fixed_prior_agrees_with_the_trained_one() -> None:
    """Whole numbers and float32 give the same bits to 1 %, and the coder writes what the tables promise."""
    torch.manual_seed(0)
    prior = Prior((16, 5))
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, (16, 5), (9, 11, 2))).permute(2, 0, 1)
    fixed = prior.fixed()
    floats = float(prior(codes[None]).detach().sum()) * 99 / np.log(2)
    encoder = Encoder()
    fixed.encode(codes.numpy(), encoder)
    payload = encoder.finish()
    assert fixed.bits(codes.numpy()) == pytest.approx(floats, rel=0.01)
    assert 8 * len(payload) == pytest.approx(fixed.bits(codes.numpy()), abs=64)
    assert np.array_equal(fixed.decode((2, 9, 11), Decoder(payload)), codes.numpy())


def test_prior_sees_only_what_is_decoded() -> None:
    """Changing a code changes nothing about the cost of those before it in any wave."""
    prior = Prior((8,))
    codes = torch.randint(8, (1, 1, 6, 7))
    changed = codes.clone()
    changed[0, 0, 3, 3] = (changed[0, 0, 3, 3] + 1) % 8
    seen = [prior._neighbourhood(c) for c in (codes, changed)]
    touched = (seen[0] != seen[1]).any(-1)[0]
    order = {(int(y), int(x)): w for w, (ys, xs) in enumerate(waves(6, 7)) for y, x in zip(ys, xs, strict=True)}
    assert len(order) == 42 and touched.any()
    assert all(order[y, x] > order[3, 3] for y, x in touched.nonzero().tolist())


def test_prior_pays_where_codes_are_predictable(tmp_path: Path) -> None:
    """A learned prior is chosen, and beats the static tables on images with structure."""
    method = MovingAverage(size=16, prior=True, **SMALL)  # type: ignore[arg-type]
    codec = method.codec(trained(method, tmp_path, steps=150))
    static = method.codec(codec.model)
    static.prior = None
    mine, theirs = (
        sum(c.payload_bits(c.compress(image)) for image in pictures(4, side=32, seed=4)) for c in (codec, static)
    )
    assert mine < 0.9 * theirs


def test_logit_frequencies_are_whole_numbers_only() -> None:
    frequencies = logit_frequencies(np.array([[0, 64, -10_000], [5, 5, 5]]))
    assert frequencies.sum(1).tolist() == [2**24] * 2 and frequencies.min() >= 1
    assert frequencies[0, 1] / frequencies[0, 0] == pytest.approx(np.e, rel=1e-3)
    assert frequencies[0].tolist() == [4512089, 12265114, 13], "the same on every machine"


def test_damage_and_other_checkpoints_are_sentences(tmp_path: Path) -> None:
    method, model = ready("vqvae_ema")
    stream = method.codec(model).compress(pictures(1)[0])
    for bad in (stream[:-1], stream[:5], stream[:20] + b"\0" + stream[21:]):
        with pytest.raises(BitstreamError):
            method.codec(model).decompress(bad)
    checkpoint.save(tmp_path, model, {"method": method.name})
    other = MovingAverage(size=32, **SMALL)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="does not hold the weights"):
        checkpoint.load(other, checkpoint.find(other, str(tmp_path)) or Weights(tmp_path, "", ""))


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (MovingAverage(size=1), "at least 2"),
        (Product(books=5), "divisor of 64"),
        (FiniteScalar(levels="8,x"), "joined by x"),
        (MovingAverage(channels=2), "1 .grey planes. or 3"),
        (MovingAverage(hidden=()), "one or more widths"),
    ],
)
def test_impossible_parameters(method: VQMethod, words: str) -> None:
    with pytest.raises(TesseraError, match=words):
        method.model()


def test_diverged_weights_are_a_sentence() -> None:
    method, model = ready("fsq")
    broken = method.model()
    broken.load_state_dict(model.state_dict())
    next(broken.encoder.parameters()).data.fill_(torch.nan)
    with pytest.raises(QuantizerError, match="not finite"):
        method.codec(broken).compress(pictures(1)[0])


@pytest.fixture
def grey_images(tmp_path: Path) -> Iterator[Path]:
    """Fashion-MNIST's own file format with 12 blobs of 28 x 28."""
    folder = tmp_path / "data" / "fashion_mnist"
    folder.mkdir(parents=True)
    for name, seed in (("train", 0), ("t10k", 1)):
        images = np.stack(pictures(12, 28, seed=seed))
        head = np.array([0x803, 12, 28, 28], dtype=">i4").tobytes()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(head + images.tobytes())
    yield tmp_path / "data"


def test_train_evaluate_and_usage_from_the_command_line(
    command: Command, grey_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grey images stay grey, counts are made, usage is logged, the table shows the measured cell; no leak passes."""
    monkeypatch.setattr(fingerprints, "INLINE", 10)
    words = ("with", "method=vqvae_ema", "dataset=fashion_mnist", f"data_root={grey_images}", "params.size=8")
    recipe = ("crop=28", "turns=False", "scales=[1.0]", "steps=4", "batch=4", "save_every=2", "log_every=2")
    done = command("vq", "train", *words, *recipe, "folder=trained", "params.hidden=[8]")
    assert done.code == 0, done.err
    meta = json.loads((tmp_path / "trained" / "meta.json").read_text())
    assert meta["data"]["fingerprints"]["images"] == 12 and meta["recipe"]["turns"] is False
    log = (tmp_path / "trained" / "train.csv").read_text().splitlines()
    assert len(log) == 3 and log[0].endswith("used0,perplexity0") and all(row.split(",")[-1] for row in log[1:])
    counts = checkpoint.read(tmp_path / "trained" / "weights.safetensors")["counts0"]
    assert int(counts.sum()) == 12 * 14 * 14
    done = command("benchmarks/codebook_usage.py", *words, "weights=trained", "params.hidden=[8]")
    assert done.code == 0, done.err
    assert "Codebook usage on fashion_mnist" in done.out and (tmp_path / "results/tables").is_dir()
    assert len(list((tmp_path / "results" / "figures").glob("codebook_*.pdf"))) == 2
    leaking = [word.replace("=fashion_mnist", "=fashion_mnist_train") for word in words]
    done = command("vq", "evaluate", *leaking, "weights=trained", "params.hidden=[8]")
    assert done.code == 2 and "12 of 12 images" in done.err and "in the training data" in done.err
