"""Typed views of modules: nothing differs from torch's containers when they run, and what is missing is said."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from core.modules import Modules, bias_of, of_kind, padding_of


def test_modules_are_a_module_list() -> None:
    torch.manual_seed(0)
    plain = nn.ModuleList(nn.Linear(2, 3) for _ in range(3))
    typed = Modules(nn.Linear(2, 3) for _ in range(3))
    assert list(typed.state_dict()) == list(plain.state_dict())
    typed.load_state_dict(plain.state_dict())
    assert [layer.weight.equal(other.weight) for layer, other in zip(typed, plain, strict=True)] == [True] * 3
    assert typed[1].out_features == 3 and typed[-1] is list(typed)[2] and next(reversed(typed)) is typed[2]
    assert isinstance(typed[1:], Modules) and list(typed[1:]) == list(typed)[1:]
    assert isinstance(copy.deepcopy(typed), Modules) and len(copy.deepcopy(typed)) == 3


def test_kinds_are_checked() -> None:
    parts = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2))
    assert of_kind(parts[0], nn.Conv2d) is parts[0]
    with pytest.raises(TypeError, match="a Conv2d is wanted here, not a PixelShuffle"):
        of_kind(parts[1], nn.Conv2d)


def test_biases_and_padding() -> None:
    conv = nn.Conv2d(1, 4, 3, padding=(1, 2))
    assert bias_of(conv) is conv.bias and padding_of(conv) == (1, 2)
    with pytest.raises(TypeError, match="a Tensor is wanted here, not a NoneType"):
        bias_of(nn.Linear(2, 2, bias=False))
    with pytest.raises(TypeError, match="a tuple is wanted here, not a str"):
        padding_of(nn.Conv2d(1, 4, 3, padding="same"))
