"""McQuic: official names, golden codes, reconstructions and files, the fast network, the context model, odd sizes."""

from __future__ import annotations

import hashlib
import json
from functools import cache

import msgpack
import numpy as np
import pytest
import torch

from core import checkpoint
from core.bitstream import BitstreamError
from core.codec import Image, TesseraError
from core.images import open_image
from core.registry import METHODS, UnknownName, discover
from tests.support.golden_mcquic import fill, uneven
from tests.support.shared import shared
from vq.mcquic import inference, mcq, rans, strips
from vq.mcquic.codec import McQuicCodec
from vq.mcquic.network import McQuic, Recipe
from vq.search import nearest

discover()
torch.set_num_threads(1)
GOLDEN = {"qp2": (128, 2, (8192, 2048, 512)), "single4x8": (128, 4, (256,))}


@cache
def golden(name: str) -> McQuic:
    return fill(McQuic(*GOLDEN[name]))


@cache
def small(context: bool = False) -> McQuic:
    """A model of three levels whose codes vary."""
    return fill(McQuic(16, 2, (32, 16, 8), Recipe(), context))


def picture(height: int, width: int, channels: int = 3) -> Image:
    rng = np.random.default_rng([height, width])
    rows, columns = np.mgrid[:height, :width]
    plane = 120 + 60 * np.sin(rows / 9)[..., None] + 40 * np.cos(columns / 7)[..., None]
    return (plane + rng.normal(0, 20, (height, width, channels))).clip(0, 255).astype(np.uint8)


def kodim01() -> Image:
    return open_image(shared("data/kodak/kodim01.png"))


@pytest.mark.parametrize("name", GOLDEN)
def test_strictly_the_official_names(name: str) -> None:
    channel, m, k = GOLDEN[name]
    listed = json.loads(shared("specs/mcquic_state_keys.json").read_text())
    title = next(t for t in listed if f"channel={channel},m={m},k={list(k)}".replace(" ", "") in t.replace(" ", ""))
    found = {key: list(value.shape) for key, value in golden(name).state_dict().items()}
    assert found == listed[title]["keys"]
    assert sum(p.numel() for p in golden(name).parameters()) == listed[title]["n_params_total"]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_codes_reconstruction_and_losses(name: str) -> None:
    model, stored = golden(name), np.load(shared(f"golden/mcquic_{name}.npz"))
    x = mcq.tensor(kodim01()[:256, :256])
    network = inference.Network(model, torch.float32) if inference.available(model) else model
    with torch.inference_mode():
        codes = network.encode(x)
        for level, found in enumerate(codes):
            assert np.array_equal(found[0].numpy(), stored[f"lv{level}_codes"])
        out = network.decode(codes)
        assert np.abs(out[0].numpy() - stored["recon"]).max() < 5e-5
        for target in ("mse", "msssim"):
            model.recipe = Recipe(target={"msssim": "ms_ssim"}.get(target, target))
            assert abs(float(model.distortion(out, x)) - stored[f"loss_{target}"]) < 1e-5


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("frequencies", ["uniform", "nonuniform"])
def test_golden_files(name: str, frequencies: str) -> None:
    model, stored = golden(name), np.load(shared(f"golden/mcquic_{name}.npz"))
    for level in model._quantizer._entropyCoder._freqEMA:
        level.data.fill_(1 / level.shape[1])
    files = mcq.Files(
        "ms_ssim", [f.detach().numpy() for f in (uneven(model) if frequencies == "nonuniform" else model).frequencies()]
    )
    files.name = "qp_2_msssim"
    for level, tables in enumerate(files.tables):
        digest = hashlib.sha256(np.stack(tables).astype("<i4").tobytes()).hexdigest()
        assert digest == str(stored[f"{frequencies}_cdf_lv{level}_sha256"])
    codes = [stored[f"lv{level}_codes"].astype(np.int64) for level in range(len(model.k))]
    whole = bytes(stored[f"mcq_{frequencies}"])
    assert files.pack((256, 256, 3), codes) == whole
    shape, found = files.unpack(whole)
    assert shape == (256, 256, 3) and all(np.array_equal(a, b) for a, b in zip(found, codes, strict=True))


def test_golden_file_of_a_padded_image() -> None:
    model, stored = uneven(golden("qp2")), np.load(shared("golden/mcquic_qp2.npz"))
    codec = McQuicCodec(model, "mcquic", b"", container="mcq")
    stream = codec.compress(kodim01()[:200, :300])
    assert stream == bytes(stored["pad_mcq_nonuniform"])
    decoded = codec.decompress(stream).transpose(2, 0, 1).astype(int)
    assert np.abs(decoded - stored["pad_recon_u8"]).max() <= 1


def test_nearest_finds_what_all_distances_find() -> None:
    torch.manual_seed(0)
    x, book = torch.randn(1000, 24), torch.randn(300, 24)
    assert torch.equal(nearest(x, book), torch.cdist(x.double(), book.double()).argmin(1))
    assert nearest(x[:0], book).shape == (0,)
    twice = torch.cat([book[:5], book[:5]])
    assert nearest(book[:5], twice).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("side", [(64, 64), (128, 192), (192, 64)])
@pytest.mark.parametrize("strip", [2**12, 2**19])
@pytest.mark.parametrize("wide", [1, 96])
def test_fast_network_is_the_network(
    side: tuple[int, int], strip: int, wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small()
    if not inference.available(model):
        pytest.skip("needs oneDNN")
    monkeypatch.setattr(strips, "STRIP", strip)
    monkeypatch.setattr(inference, "WIDE", wide)
    fast, half = inference.Network(model, torch.float32), inference.network(model, torch.bfloat16)
    x = mcq.tensor(picture(*side))[:, :, : side[0], : side[1]]
    with torch.inference_mode():
        codes = model.encode(x)
        assert all(torch.equal(a, b) for a, b in zip(codes, fast.encode(x), strict=True))
        out = model.decode(codes)
        assert (fast.decode(codes) - out).abs().max() < 1e-4
        assert 0 < (half.decode(codes).float() - out).square().mean() < 1e-3


@pytest.mark.parametrize("context", [False, True])
def test_streams_of_any_size(context: bool) -> None:
    codec = McQuicCodec(small(context), "x", b"")
    for shape in ((1, 1, 3), (1, 70, 1), (33, 47, 3), (65, 64, 3)):
        image = picture(*shape)
        stream = codec.compress(image)
        decoded = codec.decompress(stream)
        assert decoded.shape == shape and decoded.dtype == np.uint8
        assert codec.compress(image) == stream and np.array_equal(codec.decompress(stream), decoded)
        assert abs(codec.payload_bits(stream) - codec.bits(image)) <= 40
        codes = codec.codes(image)
        assert len(codes) == len(codec.codebook_sizes) == 6
        assert all(c.max() < k for c, k in zip(codes, codec.codebook_sizes, strict=True))


def test_codes_of_a_stream_do_not_depend_on_the_machines_floats() -> None:
    """Another encoder, decoder type or module order changes no code: what travels is whole numbers."""
    model = small(True)
    first, second = McQuicCodec(model, "x", b""), McQuicCodec(model, "x", b"", decoding=torch.bfloat16)
    second.network = model  # plain modules
    stream = first.compress(picture(130, 70))
    assert second.decompress(stream).shape == (130, 70, 3)


def test_context_model_learns_and_pays() -> None:
    """Codes that follow their neighbours cost less than under static tables, and decode to themselves."""
    torch.manual_seed(0)
    model = McQuic(8, 2, (16, 8), Recipe(), context=True).eval()
    rng = np.random.default_rng(0)

    def grid() -> list[torch.Tensor]:
        coarse = rng.integers(0, 8, (1, 2, 4, 6))
        fine = np.repeat(np.repeat(coarse, 2, 2), 2, 3) * 2 + (rng.random((1, 2, 8, 12)) < 0.5)
        return [torch.from_numpy(fine), torch.from_numpy(coarse)]

    assert model.context is not None
    bits = model.context.fit([grid() for _ in range(24)], model.codebooks(), steps=150)
    assert bits < 2.9, "static tables take 3.8 bits a code"
    from core.entropy import Decoder, Encoder

    fixed, codes, encoder = model.context.fixed(model.codebooks()), [g[0].numpy() for g in grid()], Encoder()
    fixed.encode(codes, encoder)
    payload = encoder.finish()
    found = fixed.decode([c.shape for c in codes], Decoder(payload))
    assert all(np.array_equal(a, b) for a, b in zip(codes, found, strict=True))
    assert abs(8 * len(payload) - fixed.bits(codes)) < 40
    assert fixed.bits(codes) < 0.8 * (192 * 4 + 48 * 3)


def test_rans_round_trip_and_its_refusals() -> None:
    rng = np.random.default_rng(0)
    tables = [rans.cumulative(rng.random(k).astype(np.float32) ** 4) for k in (5, 300)]
    rows = rng.integers(0, 2, 500).tolist()
    symbols = [int(rng.integers(0, 5 if row == 0 else 300)) for row in rows]
    payload = rans.encode(symbols, rows, tables)
    assert rans.decode(payload, rows, tables) == symbols
    assert rans.encode([], [], tables) == (1 << 31).to_bytes(8, "little")
    for bad in (b"", payload[:-4], payload[:-1], payload + b"\0\0\0\0", payload[4:]):
        with pytest.raises(BitstreamError):
            rans.decode(bad, rows, tables)


def test_files_that_are_no_messagepack() -> None:
    header = msgpack.packb({"fileHeader": 1, "contents": 2})
    twice = b"\x82" + 2 * (b"\xaafileHeader" + b"\x01")
    bad: list[bytes] = [
        b"",
        header[:-1],
        header + b"\0",
        header,
        b"\xc0",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 2000 + b"\x00",
    ]
    for data in (*bad, b"\xa2\xff\xff", b"\x81\x01\x02", twice, b"\xd4\x05\x00", b"\xd6\xff\0\0\0\0"):
        with pytest.raises(BitstreamError):
            mcq._fields(data)


def test_options_are_checked() -> None:
    method = METHODS["mcquic"]
    assert method(channel=128, m=2, k=(8192, 2048, 512)).point == 2
    for options in ({"container": "zip"}, {"decoding": "float8"}, {"target": "lpips"}, {"mode": "soft"}):
        with pytest.raises(UnknownName):
            method(**options)
    for options in ({"channel": 10, "m": 3}, {"channel": 8, "m": 2, "k": ()}, {"channel": 8, "m": 2, "k": (1,)}):
        with pytest.raises(TesseraError, match="must"):
            method(**options).model()


def test_both_containers_decode_with_one_codec() -> None:
    method = METHODS["mcquic"](channel=16, m=2, k=(32, 16, 8))
    assert checkpoint.digest(small()) == checkpoint.digest(small())
    image = picture(90, 140)
    ours, theirs = method.codec(small()), METHODS["mcquic"](channel=16, k=(32, 16, 8), container="mcq").codec(small())
    a, b = ours.compress(image), theirs.compress(image)
    assert len(a) < len(b) - 100, "the official header takes more than 140 bytes"
    assert ours.decompress(b).shape == theirs.decompress(a).shape == image.shape
    assert ours.payload_bits(b) < 8 * (len(b) - 120)
    grey = picture(20, 30, 1)
    assert theirs.decompress(theirs.compress(grey)).shape == grey.shape
