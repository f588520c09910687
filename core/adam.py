"""Adam, clipping and the average of the weights in one pass of a compiled kernel, for float32 models on a CPU.

The state is ``torch.optim.Adam``'s own, so that a run goes on with either; the numbers agree up to float32 rounding.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from core import kernels

_PLAIN = {"weight_decay": 0, "amsgrad": False, "maximize": False}  # the settings that the kernel knows


def serves(optimizer: torch.optim.Optimizer, average: nn.Module) -> bool:
    """Whether the kernel can take the steps of this optimiser and average: plain Adam, float32, on a CPU."""
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
        return False
    group = optimizer.param_groups[0]
    params, averages = group["params"], list(average.parameters())
    fit = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (*params, *averages))
    alike = fit and len(params) == len(averages) and all(map(_alike, params, averages))
    return alike and _PLAIN.items() <= group.items() and usable()


@lru_cache
def usable() -> bool:
    """Whether the kernel is there and agrees with ``torch.optim.Adam`` on a first small check."""
    if kernels.library("adam") is None:
        return False
    draw = torch.Generator().manual_seed(0)
    ours, theirs = (nn.ParameterList([torch.ones(3, 5), torch.full((37,), 0.5)]) for _ in range(2))
    mean, wanted = ([p.detach().clone() for p in ours] for _ in range(2))
    mine, plain = (torch.optim.Adam(p, lr=0.1) for p in (ours, theirs))
    for _ in range(3):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=draw)
            q.grad = p.grad.clone()
        norm, other = norm_of(mine), float(nn.utils.clip_grad_norm_(theirs, 2.0))
        step(mine, mean, 0.3, 2.0 / norm)
        plain.step()
        torch._foreach_lerp_(wanted, [q.detach() for q in theirs], 0.3)
    pairs = zip([*ours, *mean, torch.tensor(norm)], [*theirs, *wanted, torch.tensor(other)], strict=True)
    error = max(float((a.detach() - b.detach()).abs().max()) for a, b in pairs)
    if not error < 1e-5:
        print(
            f"note: the fast adam kernel is not used: its steps are off by {error:.1e}; plain torch takes them.",
            file=sys.stderr,
        )
        return False
    return True


def norm_of(optimizer: torch.optim.Optimizer) -> float:
    """The Euclidean norm of all gradients."""
    grads = _gradients(optimizer)
    total: float = _kernel("squares", ctypes.c_double)(*_list(grads), _sizes(grads))
    return math.sqrt(total) if total >= 0 else math.nan


def step(optimizer: torch.optim.Optimizer, averages: Sequence[Tensor], follow: float, scale: float) -> None:
    """One step of Adam with gradients times ``scale`` where that is below 1 (in place, as torch clips).

    ``averages``, in the order of the parameters, move by the share ``follow`` towards the new weights.
    """
    group = optimizer.param_groups[0]
    params = group["params"]
    grads = _gradients(optimizer)
    if scale < 1:
        _kernel("scale")(*_list(grads), _sizes(grads), ctypes.c_float(scale))
    (beta1, beta2), rates, roots = group["betas"], [], []
    columns: list[list[Tensor | None]] = [[], [], [], [], []]
    for p, average in zip(params, averages, strict=True):
        rate, root, state = 0.0, 1.0, {}
        if p.grad is not None:
            state = _state(optimizer, p)
            state["step"] += 1
            n = float(state["step"])
            rate, root = float(group["lr"]) / (1 - beta1**n), math.sqrt(1 - beta2**n)
        rates.append(rate)
        roots.append(root)
        row = (p, p.grad, state.get("exp_avg"), state.get("exp_avg_sq"), average)
        for column, tensor in zip(columns, row, strict=True):
            column.append(tensor)
    count, places = _list(params)
    numbers = ((ctypes.c_float * len(params))(*values) for values in (rates, roots))
    others = (_list(column)[1] for column in columns[1:])
    settings = (ctypes.c_float(v) for v in (beta1, beta2, group["eps"], follow))
    _kernel("adam")(count, _sizes(params), places, *others, *numbers, *settings)


def _gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The gradients there are, laid out as their parameters are."""
    found = []
    for p in optimizer.param_groups[0]["params"]:
        if p.grad is not None:
            if not _alike(p.grad, p):
                p.grad = torch.empty_like(p).copy_(p.grad)
            found.append(p.grad)
    return found


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have their numbers in the same order in memory (dimensions of one say nothing)."""
    strides = (tuple(s for s, n in zip(t.stride(), t.shape, strict=True) if n > 1) for t in (a, b))
    return len(set(strides)) == 1


def _state(optimizer: torch.optim.Optimizer, p: Tensor) -> dict[str, Any]:
    """The moments of a parameter as torch's Adam keeps them, laid out as the parameter is."""
    state: dict[str, Any] = optimizer.state[p]
    if not state:
        state.update(
            step=torch.zeros((), dtype=torch.float32), exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p)
        )
    for name in ("exp_avg", "exp_avg_sq"):
        if not _alike(state[name], p):
            state[name] = torch.empty_like(p).copy_(state[name])
    return state


def _kernel(name: str, result: Any = None) -> Any:
    library = kernels.library("adam")
    assert library is not None
    function = getattr(library, name)
    function.restype = result
    return function


def _list(tensors: Sequence[Tensor | None]) -> tuple[ctypes.c_int64, Any]:
    places = [None if t is None else t.data_ptr() for t in tensors]
    return ctypes.c_int64(len(tensors)), (ctypes.c_void_p * len(tensors))(*places)


def _sizes(tensors: Sequence[Tensor]) -> Any:
    return (ctypes.c_int64 * len(tensors))(*(t.numel() for t in tensors))
