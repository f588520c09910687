"""MS-SSIM as a loss: the library's, and the same where there is none."""

from __future__ import annotations

import sys

import pytest
import torch

from core.codec import TesseraError
from core.similarity import ms_ssim, plain


@pytest.mark.parametrize("shape", [(2, 3, 176, 192), (1, 1, 161, 175)])
def test_plain_torch_gives_what_the_library_gives(shape, monkeypatch):
    torch.manual_seed(0)
    a = torch.rand(shape).cumsum(3).div(shape[3]).requires_grad_()
    b = (a.detach() + 0.05 * torch.randn(shape)).clamp(0, 1)
    for weights in ([0.2] * 5, [1.0] * 5):
        a.grad = None
        theirs = ms_ssim(a, b, 1.0, weights)
        theirs.sum().backward()
        gradient = a.grad.clone()
        a.grad = None
        ours = plain(a, b, 1.0, weights)
        ours.sum().backward()
        assert ours.shape == (shape[0],) and torch.allclose(ours, theirs, atol=1e-6)
        assert (a.grad - gradient).norm() < 1e-3 * gradient.norm()
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)  # as if it were not installed
    assert torch.allclose(ms_ssim(a, b, 1.0), plain(a, b, 1.0)) and torch.allclose(ms_ssim(a, a, 1.0), torch.ones(1))


def test_small_images_are_a_sentence():
    with pytest.raises(TesseraError, match="use crop=192"):
        ms_ssim(torch.rand(1, 3, 160, 192), torch.rand(1, 3, 160, 192), 1.0)
