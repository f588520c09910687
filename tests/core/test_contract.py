"""The contract of DESIGN section 1, asserted over every registered method.

Learned methods run with fresh weights that ``matched`` makes neither trivial nor hopeless to code; a method whose
``skip`` gives a reason is skipped with it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import checkpoint
from core.bitstream import BitstreamError
from core.codec import Codec, HasEstimate, HasPayload, HasSearch, Image, Method, TesseraError
from core.registry import METHODS, discover

discover()
NAMES = sorted(METHODS)
LARGE = 10_000_000  # parameters; such models, like video encoders, get fewer images
QUICK: dict[str, dict[str, Any]] = {"coolchic_small": {"steps": 20}}  # effort, which streams are read without
SLOW = {"vvc", "x265", "vtm", "hm"}
ROUND = ((33, 47, 3), (33, 47, 1))
ODD = ((1, 1, 3), (1, 70, 3), (65, 33, 1))


def picture(height: int, width: int, channels: int = 3) -> Image:
    """A ramp with noise around mid-grey, uint8 (H, W, C)."""
    rng = np.random.default_rng([height, width, channels])
    rows, columns = np.mgrid[:height, :width]
    plane = 107 + 0.5 * rows[..., None] + 0.5 * columns[..., None] + rng.normal(0, 16, (height, width, channels))
    return plane.clip(0, 255).astype(np.uint8)


def matched(model: torch.nn.Module) -> torch.nn.Module:
    """Weights under which symbols follow their priors, as training would make them.

    Fresh weights code zeros under one scale, where the estimate (continuous scales) and the tables (64 scales) differ
    by 3 % in one direction; arbitrary weights give symbols far outside the priors, where the estimate is floored and
    the coder escapes. Here each channel of a prior gets its own scale, and its posterior an offset drawn from it.
    """
    draw = torch.Generator().manual_seed(1)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d) and name.endswith(("prior.c4", ".prior")):
            offsets = torch.rand(module.bias.shape[0] // 2, generator=draw) * 3 - 1.5  # of the log scale
            module.bias.data[len(offsets) :] = offsets
            posterior = model.get_submodule(name.replace("prior", "posterior"))
            posterior.bias.data = torch.randn(len(offsets), generator=draw) * torch.exp(offsets)
        elif name.endswith(("conv_mean.0", "conv_scale.0")):  # pixels of the lossless model: mid-grey, 20 levels
            module.weight.data.mul_(0.01)
            module.bias.data.fill_(np.log(20 / 127.5) if "scale" in name else 0)
    return model.eval()


@cache
def ready(name: str) -> tuple[Method, Any, Codec]:
    """A method with its parameters' defaults, its model (or None) and its codec, made once."""
    method = METHODS[name](**QUICK.get(name, {}))
    reason = method.skip("sample")
    if reason:
        pytest.skip(reason)
    torch.manual_seed(0)
    model = method.model()
    model = None if model is None else matched(model)
    return method, model, method.codec(model)


def is_slow(name: str) -> bool:
    model = ready(name)[1]
    return name in SLOW or (model is not None and sum(p.numel() for p in model.parameters()) > LARGE)


@cache
def coded(name: str, shape: tuple[int, int, int]) -> tuple[bytes, Image]:
    """The stream and the decoded image of ``picture(*shape)``."""
    codec = ready(name)[2]
    stream = codec.compress(picture(*shape))
    return stream, codec.decompress(stream)


@pytest.mark.parametrize("name", NAMES)
def test_declaration(name: str) -> None:
    cls = METHODS[name]
    method = cls()
    names = [f.name for f in fields(method)]  # type: ignore[arg-type]
    assert method.name == name and cls.parameters().keys() == set(names)
    assert bool(method.points) == (method.curve is not None) and (method.curve is None or method.curve in names)
    assert set(method.variant) == set(names) - {method.curve}
    assert [method.at(p).point for p in method.points] == list(method.points) and len({*method.points}) == len(
        method.points
    )
    assert method.paper if method.trains_on else cls.__doc__, "say where the method comes from"
    if names:
        with pytest.raises(FrozenInstanceError):
            setattr(method, names[0], 0)


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name: str) -> None:
    method, _, codec = ready(name)
    assert isinstance(codec, Codec)
    for shape in ROUND[: 1 if is_slow(name) else 2]:
        image = picture(*shape)
        stream, decoded = coded(name, shape)
        assert type(stream) is bytes and decoded.dtype == np.uint8 and decoded.shape == shape
        assert codec.compress(image) == stream, "the same image gives the same stream"
        assert np.array_equal(codec.decompress(stream), decoded), "the same stream gives the same image"
        assert np.array_equal(image, picture(*shape)), "the image is the caller's"
        assert not method.lossless or np.array_equal(decoded, image)


@pytest.mark.parametrize("name", NAMES)
def test_odd_sizes(name: str) -> None:
    method, _, _ = ready(name)
    for shape in ODD[1:2] if is_slow(name) else ODD:
        _, decoded = coded(name, shape)
        assert decoded.shape == shape
        assert not method.lossless or np.array_equal(decoded, picture(*shape))


@pytest.mark.parametrize("name", NAMES)
def test_estimate_and_payload(name: str) -> None:
    _, _, codec = ready(name)
    stream, _ = coded(name, ROUND[0])
    payload = codec.payload_bits(stream) if isinstance(codec, HasPayload) else 8 * len(stream)
    assert 0 < payload <= 8 * len(stream)
    if isinstance(codec, HasEstimate):
        bits = codec.bits(picture(*ROUND[0]))
        slack = max(64, 0.02 * bits)  # a codec may correct an untrained model, but loses nothing to it
        assert 0.5 * bits - slack <= payload <= bits + slack


@pytest.mark.parametrize("name", NAMES)
def test_search(name: str) -> None:
    """A method searches, and the plain codec reads what it found, or says in one sentence that it cannot."""
    method, _, codec = ready(name)
    assert method.searching(codec, 0) is codec
    if not method.searches:
        with pytest.raises(TesseraError, match=f"{name} has no search"):
            method.searching(codec, 1)
        return
    assert isinstance(codec, HasSearch)
    image = picture(*ROUND[0])
    stream = method.searching(codec, 1).compress(image)
    assert codec.decompress(stream).shape == image.shape
    assert codec.compress(image) == coded(name, ROUND[0])[0], "the plain stream stays as it is"


@pytest.mark.parametrize("name", NAMES)
def test_damaged_and_foreign_streams(name: str) -> None:
    _, _, codec = ready(name)
    stream, _ = coded(name, ROUND[0])
    other = coded("png" if name != "png" else "jpeg", ROUND[0])[0]
    cuts = (len(stream) // 2,) if is_slow(name) else (1, 8, len(stream) // 3, len(stream) - 5)
    for bad in (b"", b"\0" * 40, b"not a picture at all", other, *(stream[:cut] for cut in cuts)):
        with pytest.raises(BitstreamError) as caught:
            codec.decompress(bad)
        assert 10 < len(str(caught.value)) < 400


CHILD = """
import sys
from pathlib import Path
import numpy as np
import torch
from core import checkpoint
from core.registry import METHODS, discover

torch.set_num_threads(1)
discover()
for folder in sorted(Path(sys.argv[1]).iterdir()):
    method = METHODS[folder.name]()
    stored = folder / "weights.safetensors"
    model = checkpoint.load(method, checkpoint.find(method, str(folder))) if stored.exists() else None
    decoded = method.codec(model).decompress((folder / "stream").read_bytes())
    print(folder.name, "same" if np.array_equal(decoded, np.load(folder / "decoded.npy")) else "different")
"""


def test_decode_in_a_fresh_process(tmp_path: Path) -> None:
    """Stream and checkpoint suffice: another process that gets nothing else decodes the same image."""
    written = []
    for name in NAMES:
        if METHODS[name]().skip("sample"):
            continue
        folder = tmp_path / "streams" / name
        folder.mkdir(parents=True)
        _, model, _ = ready(name)
        if model is not None:
            checkpoint.save(folder, model, {"method": name})
        stream, decoded = coded(name, ROUND[0])
        (folder / "stream").write_bytes(stream)
        np.save(folder / "decoded.npy", decoded)
        written.append(name)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "streams")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    shutil.rmtree(tmp_path / "streams")  # hundreds of megabytes of weights
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == [*(f"{name} same" for name in written), ""]
