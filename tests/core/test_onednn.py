"""oneDNN's operations against torch's, and the one place that calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from core import onednn

ROOT = Path(onednn.__file__).resolve().parents[1]
needed = pytest.mark.skipif(not onednn.available(), reason="needs oneDNN")
AFTER = {"": lambda x: x, "gelu": F.gelu, "silu": F.silu}


@needed
@pytest.mark.parametrize("rows", [3, 100])
@torch.inference_mode()
def test_linear(rows):
    torch.manual_seed(0)
    x, weight, bias, add = torch.randn(rows, 12), torch.randn(20, 12), torch.randn(20), torch.randn(rows, 20)
    for b in (bias, None):
        linear = onednn.Linear(weight, b, 64)
        for after in ("", "gelu"):
            torch.testing.assert_close(linear(x, after), AFTER[after](F.linear(x, weight, b)))
        torch.testing.assert_close(linear(x, add=add), F.linear(x, weight, b) + add)


@needed
@pytest.mark.parametrize("options", [{"padding": (1, 1)}, {"stride": [2, 2], "packed": False}, {"groups": 4}])
@torch.inference_mode()
def test_convolution(options):
    torch.manual_seed(0)
    weight, bias = torch.randn(12, 8 // options.get("groups", 1), 3, 3), torch.randn(12)
    x = torch.randn(1, 9, 10, 8).permute(0, 3, 1, 2)
    torched = {name: tuple(value) if name != "groups" else value for name, value in options.items() if name != "packed"}
    for b in (bias, None):
        convolution, expected = onednn.Convolution(weight, b, **options), F.conv2d(x, weight, b, **torched)
        for after, law in AFTER.items():
            torch.testing.assert_close(convolution(x, after), law(expected))
        add = torch.randn_like(expected).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(convolution(x, add=add.clone()), expected + add)


def test_it_is_not_available_when_it_is_switched_off():
    with torch.backends.mkldnn.flags(enabled=False):
        assert not onednn.available()


def test_families_do_not_call_torchs_private_operations():
    folders = ("core", "qres", "vq", "lattice", "overfit", "rec", "experiments", "benchmarks")
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "ops.mkldnn" in path.read_text() or "_get_mkldnn_enabled" in path.read_text()
    ]
    assert found == ["core/onednn.py"]
