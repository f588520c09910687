"""Compiled kernels against float64, and everything that can be wrong with a compiler: one note, and the plain path."""

from __future__ import annotations

import math
import os
import stat
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from core import adam, depthwise, kernels, pointwise
from core.train import TrainConfig, Trainer
from qres.architectures import Architecture
from qres.blocks import CNX
from qres.network import QResVAE

LIBRARIES = ("depthwise", "adam", "block")
CACHED = (kernels.library, depthwise.usable, adam.usable, pointwise.usable)
SMALL = Architecture(
    (("patch", 16, 4), ("cnx", 16, 7), ("down", 16, 32, 2), ("cnx", 32, 1)),
    (("latent", 32, 4, 1), ("up", 32, 16, 2), ("latent", 16, 4, 5), ("up", 16, 3, 4)),
    -0.45, 3.7, embedding=8, gamma=0.1, least=16,
)  # fmt: skip

compiled = pytest.mark.skipif(
    not all(kernels.library(name) for name in LIBRARIES), reason="needs a C++ compiler, which is not here"
)


@pytest.fixture
def afresh(monkeypatch, tmp_path):
    """Libraries are looked for anew, in an empty cache, before and after."""

    def forget() -> None:
        kernels._failed.clear()
        for function in CACHED:
            function.cache_clear()

    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "cache"))
    forget()
    yield
    monkeypatch.undo()
    forget()


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


# The depthwise gradient


@compiled
@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 16, 9, 6), (1, 48, 1, 1), (3, 32, 2, 17), (1, 16, 33, 5)])
def test_depthwise_gradients_are_those_of_float64(size, kind, shape):
    draw = torch.Generator().manual_seed(size)
    x, grad = (torch.randn(shape, generator=draw).to(kind) for _ in range(2))
    weight, bias = depthwise.weight_gradient(x, grad, size)
    c = shape[1]
    wanted = nn.grad.conv2d_weight(x.double(), (c, 1, size, size), grad.double(), padding=size // 2, groups=c)
    assert torch.allclose(weight.double(), wanted, rtol=1e-5, atol=1e-5)
    assert torch.allclose(bias.double(), grad.double().sum((0, 2, 3)), rtol=1e-5, atol=1e-5)


@compiled
def test_the_kernel_refuses_what_it_does_not_know():
    x = torch.zeros(1, 16, 4, 4)
    with pytest.raises(ValueError, match="size 9"):
        depthwise.weight_gradient(x, x, 9)
    for layer in (nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.Conv2d(16, 16, 3, groups=16)):
        assert not depthwise.serves(torch.zeros(1, layer.in_channels, 8, 8), layer)
        assert depthwise.depthwise(torch.zeros(1, layer.in_channels, 8, 8), layer).requires_grad


@compiled
def test_a_depthwise_layer_trains_as_torch_does():
    layer = nn.Conv2d(16, 16, 5, padding=2, groups=16).double()
    plain = deepcopy(layer)
    single = deepcopy(layer).float()
    x = torch.randn(2, 16, 12, 7, dtype=torch.float64)
    inputs = x.clone().requires_grad_(), x.float().requires_grad_()
    plain(inputs[0]).square().sum().backward()
    depthwise.depthwise(inputs[1], single).square().sum().backward()
    for wanted, found in [(inputs[0], inputs[1]), *zip(plain.parameters(), single.parameters(), strict=True)]:
        assert torch.allclose(wanted.grad, found.grad.double(), rtol=1e-4, atol=1e-4)


# LayerNorm and GELU


@compiled
def test_gelu_of_every_bfloat16_number():
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    x = x[x.isfinite()]
    wide = x.double().requires_grad_()
    wanted = F.gelu(wide)
    wanted.sum().backward()
    for kind in (torch.bfloat16, torch.float32):
        g, slope = pointwise.gelu_slope(x.to(kind))
        assert torch.allclose(g.double(), wanted.detach(), rtol=2**-8, atol=2e-7)
        assert torch.allclose(slope.double(), wide.grad, rtol=2**-8, atol=1e-6)
    strange = pointwise.gelu_slope(torch.tensor([math.nan, math.inf], dtype=torch.bfloat16))[0]
    assert strange[0].isnan() and strange[1] == math.inf, "a run that diverges must show it"


@compiled
@pytest.mark.parametrize("shape", [(5,), (2, 3, 5, 7), (1, 16, 4, 4)])
def test_gelu_as_a_layer(shape):
    x = torch.randn(shape, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    if len(shape) == 4:
        other = x.detach().clone(memory_format=torch.channels_last).requires_grad_()
    F.gelu(x).square().sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        y = pointwise.gelu(other)
    assert y.dtype == torch.bfloat16 and y.stride() == other.stride()
    y.float().square().sum().backward()
    assert other.grad.dtype == torch.float32 and torch.allclose(x.grad, other.grad, rtol=0.03, atol=0.02)
    assert pointwise.gelu(other.detach()).dtype == torch.float32, "outside of training it is torch's"


@compiled
@pytest.mark.parametrize("images", [1, 3])
def test_normalisation_and_its_gradients(images):
    assert max(pointwise._errors().values()) < 1 / 128
    y = (100 + torch.randn(6, 32)).bfloat16()  # a mean much larger than the deviation
    scale, shift = torch.randn(images, 32), torch.randn(images, 32)
    u, mean, inverse = pointwise.normalise(y, scale, shift, 1e-6)
    wide = y.double()
    assert torch.allclose(mean.double(), wide.mean(1)) and torch.allclose(
        inverse.double(), (wide.var(1, unbiased=False) + 1e-6).rsqrt(), rtol=1e-5
    )
    wanted = F.layer_norm(wide, (32,), eps=1e-6).view(images, -1, 32) * scale[:, None] + shift[:, None]
    assert torch.allclose(u.double(), wanted.view(6, 32), rtol=2**-8, atol=1e-4)


# The whole block


def gradients(module: nn.Module, amp: bool, *inputs: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)
    module.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        out = module(*inputs)
        loss = getattr(out, "loss", None)
        loss = out.float().sin().sum() if loss is None else loss
    loss.backward()
    return torch.cat([p.grad.flatten() for p in module.parameters()])


@compiled
@pytest.mark.parametrize(("kernel", "embedding"), [(7, 0), (5, 8), (3, 8), (1, 8)])
def test_a_fused_block_is_closer_to_float32_than_autocast(kernel, embedding, afresh, monkeypatch):
    torch.manual_seed(kernel)
    made = CNX(32, kernel, embedding, gamma=0.5)
    for p in made.parameters():
        nn.init.normal_(p, std=0.3)
    inputs = [torch.randn(3, 32, 6, 5).contiguous(memory_format=torch.channels_last).requires_grad_()]
    inputs += [torch.randn(3, embedding)] if embedding else []
    errors, outputs = {}, {}
    for which in ("1", "0"):
        monkeypatch.setenv("TESSERA_KERNELS", which)
        for function in CACHED:
            function.cache_clear()
        own = []
        for amp in (True, False):
            inputs[0].grad = None
            own.append(torch.cat([gradients(made, amp, *inputs), inputs[0].grad.flatten()]))
        errors[which] = float((own[0] - own[1]).norm() / own[1].norm())
        with torch.autocast("cpu", torch.bfloat16):
            outputs[which] = made(*inputs)
    assert outputs["1"].dtype == torch.float32 and outputs["1"].stride() == outputs["0"].stride()
    assert torch.allclose(outputs["1"], outputs["0"], rtol=0.05, atol=0.05)
    assert errors["1"] < max(1.1 * errors["0"], 0.003), errors


@compiled
def test_a_training_step_uses_the_kernels_and_evaluation_does_not(monkeypatch):
    calls: list[str] = []
    original = pointwise._call
    monkeypatch.setattr(pointwise, "_call", lambda name, *rest: (calls.append(name), original(name, *rest))[1])
    model = QResVAE(SMALL, 64)
    error = gradients(model, True, torch.rand(2, 3, 32, 32)) - gradients(model, False, torch.rand(2, 3, 32, 32))
    assert error.isfinite().all()
    assert {"normalise", "normalise_backward", "product_and_sums", "gelu_float", "narrowed", "added"} <= set(calls)
    calls.clear()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model.eval()(torch.rand(1, 3, 32, 32))
    assert not calls


# Adam


def trainers() -> tuple[Trainer, Trainer]:
    torch.manual_seed(0)
    model = QResVAE(SMALL, 64)
    config = TrainConfig(steps=20, batch=2, lr=1e-2, warmup=3, amp=False)
    fast, plain = Trainer(model, config), Trainer(deepcopy(model), config)
    assert fast.one_pass
    plain.one_pass = False
    return fast, plain


@compiled
@pytest.mark.parametrize("clip", [1e9, 0.05])
def test_one_pass_is_adam_clipping_and_average(clip):
    for p in (params := [nn.Parameter(torch.randn(s)) for s in [(), (1,), (17,), (5, 3), (4, 3, 2, 2)]]):
        p.data = p.data.contiguous(memory_format=torch.channels_last) if p.dim() == 4 else p.data
    twins, means = ([nn.Parameter(p.detach().clone()) for p in params] for _ in range(2))
    wanted = [p.detach().clone() for p in params]
    mine, plain = (torch.optim.Adam(each, lr=0.02, betas=(0.8, 0.95)) for each in (params, twins))
    for count in range(6):
        for p, q in zip(params, twins, strict=True):
            p.grad = None if count == 2 and p.dim() == 2 else torch.randn(p.shape)  # not laid out as p is
            q.grad = None if p.grad is None else p.grad.clone()
        norm = adam.norm_of(mine)
        assert norm == pytest.approx(float(nn.utils.clip_grad_norm_(twins, clip)), rel=1e-5)
        with torch.no_grad():
            adam.step(mine, means, 0.1 if count % 2 else 0.9, clip / (norm + 1e-6))
        plain.step()
        torch._foreach_lerp_(wanted, [q.detach() for q in twins], 0.1 if count % 2 else 0.9)
        pairs = [*zip(params, twins, strict=True), *zip(means, wanted, strict=True)]
        assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)
        graded = [(p.grad, q.grad) for p, q in zip(params, twins, strict=True) if p.grad is not None]
        assert all(torch.allclose(a, b, rtol=1e-5) for a, b in graded)


@compiled
def test_a_run_goes_on_with_either_adam(tmp_path):
    """The state is torch's: saved by one, continued by the other, they stay together."""
    fast, plain = trainers()
    images = torch.rand(2, 3, 32, 32)
    for _ in range(3):
        fast.advance(fast.model, images)
        plain.advance(plain.model, images)
    plain.save(tmp_path / "plain.pt")
    fast.save(tmp_path / "fast.pt")
    layout = [torch.load(tmp_path / f"{n}.pt", weights_only=True)["optimizer"] for n in ("plain", "fast")]
    assert layout[0]["param_groups"] == layout[1]["param_groups"]
    assert {n: list(s) for n, s in layout[0]["state"].items()} == {n: list(s) for n, s in layout[1]["state"].items()}
    (other, _), (_, another) = trainers(), trainers()
    other.load(tmp_path / "plain.pt")
    another.load(tmp_path / "fast.pt")
    for _ in range(3):
        norms = [t.advance(t.model, images)["norm"] for t in (fast, plain, other, another)]
        assert max(norms) == pytest.approx(min(norms), rel=1e-3)


@compiled
def test_what_the_one_pass_does_not_know_is_left_to_torch():
    model = nn.Linear(4, 4)
    twin = deepcopy(model)
    for optimizer in (
        torch.optim.Adam(model.parameters(), amsgrad=True),
        torch.optim.Adam(model.parameters(), weight_decay=0.1),
        torch.optim.AdamW(model.parameters()),
        torch.optim.Adam([{"params": [model.weight]}, {"params": [model.bias]}]),
        torch.optim.Adam(deepcopy(model).double().parameters()),
    ):
        assert not adam.serves(optimizer, twin)
    assert adam.serves(torch.optim.Adam(model.parameters()), twin)


# Compilers


def note(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert not captured.out and len(lines) == 1, captured
    return lines[0]


def plainly() -> None:
    """A block and a step of Adam without kernels."""
    block = CNX(16, 3)
    gradients(block, True, torch.randn(1, 16, 4, 4))
    assert not Trainer(block, TrainConfig(steps=1)).one_pass


def test_no_compiler_is_one_note(afresh, monkeypatch, capsys):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(kernels.shutil, "which", lambda name: None)
    assert kernels.library("depthwise") is None and kernels.library("depthwise") is None
    assert "fast depthwise kernel is not used: there is no C++ compiler" in note(capsys)
    plainly()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("echo 'error: no such processor' >&2; exit 1", "failed (error: no such processor)"),
        ("exit 0", "failed (no message)"),
        ("sleep 600 & sleep 600", "did not end within 1 seconds"),
        (None, "cannot be started (No such file or directory)"),
    ],
)
def test_a_compiler_that_fails_or_hangs_is_one_note(afresh, monkeypatch, capsys, tmp_path, text, sentence):
    monkeypatch.setattr(kernels, "LIMIT_S", 1)
    where = tmp_path / "c++"
    monkeypatch.setenv("CXX", program(where, text) if text else str(where))
    started = time.monotonic()
    assert not any(kernels.library(name) for name in LIBRARIES)
    assert time.monotonic() - started < 30
    assert sentence in note(capsys), "once, not for each library"
    assert not list((tmp_path / "cache").rglob("*.so"))
    plainly()


def test_a_cache_that_cannot_be_written_and_a_library_that_is_not_one(afresh, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("CXX", program(tmp_path / "c++", 'while [ "$1" != -o ]; do shift; done; echo no > "$2"'))
    assert kernels.library("block") is None and "cannot be written or loaded" in note(capsys)
    (tmp_path / "file").touch()
    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "file"))
    assert kernels.library("adam") is None and "cannot be written or loaded" in note(capsys)
    plainly()


@compiled
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_kernel_that_computes_something_else_is_not_used(afresh, monkeypatch, capsys, tmp_path, name):
    """The compiler changes one number in the source."""
    changes = {"depthwise": "s/widened(grad + at);/widened(grad + at) * 1.01f;/",
              "adam": "s/(std::sqrt(v.i.) /(1.01f * std::sqrt(v[i]) /", "block": "s/0.398942/0.498942/"}  # fmt: skip
    script = f"""for last; do :; done
sed '{changes[name]}' "$last" > {tmp_path}/changed.cpp && ! cmp -s "$last" {tmp_path}/changed.cpp || exit 1
n=$#; for word; do shift; [ "$word" = "$last" ] || set -- "$@" "$word"; done
exec g++ "$@" {tmp_path}/changed.cpp"""
    monkeypatch.setenv("CXX", program(tmp_path / "c++", script))
    usable = {"depthwise": depthwise, "adam": adam, "block": pointwise}[name].usable
    assert not usable() and not usable()
    assert f"the fast {name} kernel" in note(capsys)
    plainly()


def test_kernels_can_be_switched_off(afresh, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TESSERA_KERNELS", "0")
    assert not any(kernels.library(name) for name in LIBRARIES)
    plainly()
    assert capsys.readouterr() == ("", "") and not (tmp_path / "cache").exists()


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_kept_memory_is_not_faulted_in_again():
    code = """
import resource, torch
from core import memory
if {keep}: assert memory.keep()
def step(): return [torch.ones(12_000_000) for _ in range(2)]  # more than glibc keeps by itself
for _ in range(12): step()  # until the heap has settled
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step(); step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = [
        int(subprocess.run([sys.executable, "-c", code.format(keep=keep)], capture_output=True, text=True, check=True,
                           env={**os.environ, "OMP_NUM_THREADS": "1"}).stdout)
        for keep in (True, False)
    ]  # fmt: skip
    assert faults[0] * 5 < faults[1]
