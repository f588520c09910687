"""Samples, blends, repairs and previews of streams: golden values, laws, cut files."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.images import open_image
from core.registry import METHODS, discover
from qres import bits, generate, preview
from qres.architectures import QRES34M, QRES34M_LOSSLESS
from qres.codec import QResCodec
from qres.network import QResVAE
from tests.support.golden_qres import fill
from tests.support.shared import shared

discover()


@cache
def golden_model() -> QResVAE:
    return fill(QResVAE(QRES34M, lmb=16))


def golden() -> dict[str, np.ndarray]:
    return dict(np.load(shared("golden/qres34m.npz")))


@cache
def small_model() -> QResVAE:
    """The golden rule's weights in our own small model: every latent matters."""
    model = fill(METHODS["qres3m_vr"](lmb=64).model())
    model.decoder.dec_blocks[-1][0].weight.data.mul_(0.15)
    return model


@cache
def small() -> QResCodec:
    return QResCodec(small_model(), "qres3m_vr", b"test")


def picture(height: int = 96, width: int = 130, channels: int = 3) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(rows / (5 + c) + columns / (9 - c)) for c in range(channels)]
    noise = np.random.default_rng(height + width).normal(0, 9, (height, width, channels))
    return np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


# -- golden ---------------------------------------------------------------------------------------------------------


def test_golden_unconditional():
    x = generate.sample(golden_model(), (1, 2, 1), 0.0)[0].numpy()
    np.testing.assert_allclose(x, golden()["uncond_t0_1x2x1"], atol=1e-5)


@pytest.mark.parametrize(
    "field, file, box, levels, tolerance",
    [
        ("A", "kodim01", (0, 256, 0, 256), (0, 6, 12), 5e-3),  # latents near a rounding boundary may flip
        ("B", "kodim16", (256, 448, 384, 512), tuple(range(13)), 1e-5),
    ],
)
def test_golden_progressive(field, file, box, levels, tolerance):
    top, bottom, left, right = box
    image = open_image(shared(f"data/kodak/{file}.png"))[top:bottom, left:right]
    model = golden_model()
    x = generate.to_tensor(model, image)
    known = generate.latents(model, x)
    got = []
    for k in levels:
        y = generate.sample(model, known.shape, 0.0, given=known.z[:k])
        got.append((float(((y - x) ** 2).mean()), float(y.mean())))
    np.testing.assert_allclose(got, golden()[f"{field}_progressive_mse_mean"][list(levels)], rtol=tolerance)
    np.testing.assert_allclose(known.bits, golden()[f"{field}_bits"], rtol=max(tolerance, 1e-4))


# -- sampling -------------------------------------------------------------------------------------------------------


def test_temperature_and_seed():
    model = small_model()
    same = [generate.sample(model, (1, 2, 2), 0.7, seed=3) for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(same[0], generate.sample(model, (1, 2, 2), 0.7, seed=4))
    still = [generate.sample(model, (1, 2, 2), 0.0, seed=seed) for seed in (3, 4)]
    assert torch.equal(*still)
    assert same[0].shape == (1, 3, 64, 64) and float(same[0].min()) >= 0 and float(same[0].max()) <= 1


def test_the_drawn_latents_have_the_variance_of_the_prior():
    """Var(mean + t (scale N + U)) = t^2 (scale^2 + 1/12)."""
    prior = SimpleNamespace(mean=torch.full((1, 1, 400, 400), 2.0), scale=torch.full((1, 1, 400, 400), 0.5))
    z = generate._draw(prior, 0.8, torch.Generator().manual_seed(0))
    assert float(z.mean()) == pytest.approx(2, abs=0.01)
    assert float(z.var()) == pytest.approx(0.64 * (0.25 + 1 / 12), rel=0.02)


def test_given_latents_are_kept_at_any_temperature():
    model = small_model()
    known = generate.latents(model, generate.to_tensor(model, picture(64, 64)))
    a, b = (generate.sample(model, known.shape, 1.0, seed, given=known.z) for seed in (0, 1))
    assert torch.equal(a, b)
    c, d = (generate.sample(model, known.shape, 1.0, seed, given=known.z[:2]) for seed in (0, 1))
    assert not torch.equal(c, d)


def test_the_lossless_model_draws_pixels_too():
    model = fill(QResVAE(QRES34M_LOSSLESS, lmb=1))
    a, b = (generate.sample(model, (1, 1, 1), t) for t in (0.0, 0.5))
    assert a.shape == b.shape == (1, 3, 64, 64)
    assert float((a - b).abs().max()) > 0.05


def test_samples_have_the_size_asked_for():
    images = generate.sample_images(small_model(), 3, 40, 70, 0.5)
    assert [image.shape for image in images] == [(40, 70, 3)] * 3
    assert not np.array_equal(images[0], images[1])


def test_interpolation_ends_at_the_two_reconstructions():
    model, codec = small_model(), small()
    a, b = picture(60, 64), picture(60, 64)[::-1].copy()
    images = generate.interpolate(model, a, b, 5)
    assert len(images) == 5
    for image, original in ((images[0], a), (images[-1], b)):
        decoded = codec.decompress(codec.compress(original))
        assert np.abs(image.astype(int) - decoded).max() <= 1
    assert not np.array_equal(images[0], images[2])


def test_inpainting_does_not_look_into_the_box():
    model, image, box = small_model(), picture(70, 100), (0.25, 0.3, 0.6, 0.7)
    other = generate.masked(image, box)
    assert not np.array_equal(image, other)
    a, b = (generate.inpaint(model, x, box, steps=2) for x in (image, other))
    assert np.array_equal(a, b) and a.shape == image.shape
    assert not np.array_equal(a, generate.inpaint(model, image, box, steps=2, seed=1))
    rows, columns = slice(21, 49), slice(25, 60)
    assert (other[rows, columns] == 128).all()
    outside = np.ones(image.shape[:2], bool)
    outside[rows, columns] = False
    assert np.array_equal(other[outside], image[outside])


def test_inpainting_draws_only_inside_the_box():
    model = small_model()
    known = generate.latents(model, generate.to_tensor(model, picture(128, 128)))
    seen: list[torch.Tensor] = []
    real = model.top_down

    def top_down(shape, visit, condition=None):
        def note(*arguments):
            seen.append(visit(*arguments))
            return seen[-1]

        return real(shape, note, condition)

    model.top_down = top_down
    try:
        generate.sample(model, known.shape, 1.0, given=known.z, box=(0.5, 0.25, 1, 0.75))
    finally:
        del model.top_down
    for z, kept in zip(seen, known.z, strict=True):
        side = z.shape[2]
        inside = torch.zeros(z.shape[2:], dtype=torch.bool)
        inside[side // 4 : side * 3 // 4, side // 2 :] = True
        assert torch.equal(z[..., ~inside], kept[..., ~inside])
        assert not torch.isclose(z[..., inside], kept[..., inside]).all()


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda m: generate.sample_images(m, 1, 32, 32, -1.0), "temperature of at least 0"),
        (lambda m: generate.sample_images(m, 0, 32, 32), "number and a size above 0"),
        (lambda m: generate.sample(m, (1, 1, 1), given=[torch.zeros(1, 3, 1, 1)]), "latent 0 has shape"),
        (lambda m: generate.sample(m, (1, 1, 1), given=[None] * 99), "99 latents"),
        (lambda m: generate.latents(m, torch.zeros(1, 3, 33, 32)), "multiples of 32"),
        (lambda m: generate.interpolate(m, picture(32, 32), picture(32, 33)), "one size"),
        (lambda m: generate.interpolate(m, picture(32, 32), picture(32, 32), 1), "at least 2 steps"),
        (lambda m: generate.inpaint(m, picture(32, 32), (0.5, 0, 0.4, 1)), "left < right"),
        (lambda m: generate.inpaint(m, picture(32, 32), (0.5, 0, 1.4, 1)), "0..1"),
        (lambda m: generate.inpaint(m, picture(32, 32), (0, 0, 1, 1), steps=0), "at least 1 step"),
        (lambda m: generate.grid([]), "at least one picture"),
    ],
)
def test_mistakes_are_one_sentence(call, sentence):
    with pytest.raises(TesseraError, match=sentence):
        call(small_model())


def test_grid_places_every_picture():
    colours = [np.full((10, 20, 3), 40 * i, np.uint8) for i in range(5)]
    figure = generate.grid(colours, columns=2, gap=4)
    assert figure.shape == (4 + 3 * 14, 4 + 2 * 24, 3)
    for i, colour in enumerate(colours):
        y, x = 4 + i // 2 * 14, 4 + i % 2 * 24
        assert np.array_equal(figure[y : y + 10, x : x + 20], colour)
    assert generate.grid(colours, ["a"] * 5, columns=2, gap=4).shape[0] > figure.shape[0]


# -- previews -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(96, 130, 3), (33, 31, 1)])
def test_levels_of_a_stream_are_those_of_the_image(shape):
    codec, image = small(), picture(*shape)
    stream = codec.compress(image)
    known = generate.latents(codec.model, generate.to_tensor(codec.model, image))
    views = preview.progressive(codec, stream)
    blocks = len(codec.model.arch.latents)
    assert [view.levels for view in views] == list(range(blocks + 1))
    assert np.array_equal(views[-1].image, codec.decompress(stream))
    np.testing.assert_allclose([view.bits for view in views], np.cumsum([0, *known.bits]), rtol=1e-4)
    for view in views:
        assert np.array_equal(view.image, preview.decompress(codec, stream, view.levels)) or view.levels == blocks
        x = generate.sample(codec.model, known.shape, 0.0, given=known.z[: view.levels], condition=known.condition)
        expected = generate.to_images(x, *shape)[0]
        assert view.image.shape == shape and np.abs(view.image.astype(int) - expected).max() <= 1
    assert np.array_equal(preview.decompress(codec, stream), codec.decompress(stream))


def test_the_bytes_of_a_level_are_the_fewest_that_hold_it():
    codec = small()
    stream = codec.compress(picture())
    views = preview.progressive(codec, stream)
    sizes = [view.bytes for view in views]
    assert sizes == sorted(sizes) and sizes[-1] <= len(stream)
    assert preview.preview(codec, stream[: sizes[0]]).levels == 0
    for view in views[1:]:
        assert preview.preview(codec, stream[: view.bytes]).levels >= view.levels
        assert preview.preview(codec, stream[: view.bytes - 1]).levels < view.levels
        assert view.bytes * 8 < 1.1 * view.bits + 400
    assert [v.bytes for v in preview.progressive(codec, stream, prefixes=False)] == [None] * len(views)


def test_a_cut_file_is_a_picture_and_more_of_it_a_better_one():
    codec, image = small(), picture()
    stream = codec.compress(image)
    whole = codec.decompress(stream).astype(float)
    errors, levels = [], []
    for part in (0.05, 0.3, 0.6, 0.9, 0.99, 1):
        view = preview.preview(codec, stream[: int(part * len(stream))])
        assert view.image.shape == image.shape
        errors.append(float(((view.image - whole) ** 2).mean()))
        levels.append(view.levels)
    assert levels == sorted(levels) and levels[0] < levels[-1] == len(codec.model.arch.latents)
    assert errors[-1] == 0 and errors[0] > errors[-2]


def test_foreign_and_hopeless_streams_are_refused():
    codec = small()
    stream = codec.compress(picture())
    for data, sentence in [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "PNG"),
        (stream[:9], "truncated"),
        (stream[:17], "more of the file"),
    ]:
        with pytest.raises(BitstreamError, match=sentence):
            preview.preview(codec, data)
    with pytest.raises(BitstreamError, match="another method"):
        preview.preview(QResCodec(codec.model, "qres3m_vr", b"other"), stream[:100])
    with pytest.raises(BitstreamError, match="CRC32"):
        preview.progressive(codec, stream[:-3])
    for levels in (-1, 99):
        with pytest.raises(TesseraError, match="latent blocks"):
            preview.decompress(codec, stream, levels)


def test_previews_of_the_lossless_model_end_with_its_pixels():
    codec = QResCodec(fill(QResVAE(QRES34M_LOSSLESS, lmb=1)), "qres34m_lossless", b"golden")
    image = picture(40, 50)
    stream = codec.compress(image)
    views = preview.progressive(codec, stream, prefixes=False)
    assert len(views) == 14 and np.array_equal(views[-1].image, image)
    assert not np.array_equal(views[-2].image, image)
    cut = preview.preview(codec, stream[:-50])
    assert np.array_equal(cut.image, views[-2].image)


# -- bits -----------------------------------------------------------------------------------------------------------


def test_bits_of_the_levels_are_the_estimate_of_the_codec():
    image = picture(70, 100)
    parts = bits.levels(small_model(), image)
    assert [part.stride for part in parts] == [32, 16, 16, 8, 8, 4, 4]
    assert [part.bits.shape for part in parts[::3]] == [(3, 4), (12, 16), (24, 32)]
    assert sum(part.total for part in parts) == pytest.approx(small().bits(image), rel=1e-5)
    whole = parts[-1].per_pixel(96, 128)
    assert whole.sum() == pytest.approx(parts[-1].total)
    assert parts[-1].per_pixel(70, 100).shape == (70, 100)


def test_bits_of_the_lossless_model_include_its_pixels_but_no_padding():
    model = fill(QResVAE(QRES34M_LOSSLESS, lmb=1))
    image = picture(40, 50)
    parts = bits.levels(model, image)
    assert parts[-1].name == "pixels" and parts[-1].bits.shape == (40, 50)
    assert sum(part.total for part in parts) == pytest.approx(QResCodec(model, "x", b"x").bits(image), rel=1e-5)
