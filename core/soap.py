"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., ICLR 2025, arXiv 2409.11321, algorithm 3).

A tensor is taken as the matrix (first dimension, all others). A side longer than ``largest`` is not rotated; tensors
of one dimension, depthwise kernels and those with no side to rotate are Adam's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Soap(torch.optim.Optimizer):
    """The optimiser. The bases follow the gradients' statistics by one step of QR iteration every ``every`` steps."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        every: int = 10,
        largest: int = 256,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "every": every, "largest": largest})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    matrix = p.grad.reshape(_sides(p))
                    p.sub_(group["lr"] * self._update(self.state[p], matrix, group).reshape(p.shape))

    def _update(self, state: dict[str, Any], grad: Tensor, group: dict[str, Any]) -> Tensor:
        """The direction of a step, a matrix as the gradient is."""
        (a, b), sides = group["betas"], _rotated(grad, group["largest"])
        if not state:
            zeros = torch.zeros_like(grad, memory_format=torch.contiguous_format)
            state.update(step=torch.zeros(()), first=zeros, second=zeros.clone())
            for side in sides:
                state[f"moments{side}"] = _outer(grad, side) * (1 - b)
                state[f"basis{side}"] = torch.linalg.eigh(_damped(state[f"moments{side}"]))[1].flip(1).contiguous()
        state["step"] += 1
        n = float(state["step"])
        rotated = _rotate(grad, state, sides)
        first, second = state["first"].lerp_(grad, 1 - a), state["second"].lerp_(rotated.square(), 1 - b)
        slope = _rotate(first, state, sides) / (1 - a**n)
        update = _rotate(slope / ((second / (1 - b**n)).sqrt() + group["eps"]), state, sides, back=True)
        for side in sides:
            state[f"moments{side}"].lerp_(_outer(grad, side), 1 - b)
            if int(n) % group["every"] == 0:
                _turn(state, side)
        return update


def _sides(p: Tensor) -> tuple[int, int]:
    """The matrix that a tensor is taken as: (1, n) where it is Adam's."""
    if p.dim() < 2 or (p.dim() > 2 and p.shape[1] == 1):  # a depthwise kernel has one input for each output
        return 1, p.numel()
    return p.shape[0], p.numel() // p.shape[0]


def _rotated(matrix: Tensor, largest: int) -> list[int]:
    """The sides that have a basis of their own."""
    return [side for side in (0, 1) if 1 < matrix.shape[side] <= largest and matrix.shape[0] > 1]


def _outer(grad: Tensor, side: int) -> Tensor:
    return grad @ grad.t() if side == 0 else grad.t() @ grad


def _damped(moments: Tensor) -> Tensor:
    """Moments plus a little of the identity, so that a basis is complete where gradients span less."""
    scale = moments.diagonal().mean().clamp_min(1e-30)
    return moments + 1e-6 * scale * torch.eye(len(moments), dtype=moments.dtype, device=moments.device)


def _rotate(matrix: Tensor, state: dict[str, Any], sides: list[int], back: bool = False) -> Tensor:
    """Into the bases, or back."""
    for side in sides:
        basis = state[f"basis{side}"] if back else state[f"basis{side}"].t()
        matrix = basis @ matrix if side == 0 else matrix @ basis.t()
    return matrix


def _turn(state: dict[str, Any], side: int) -> None:
    """One step of QR iteration, largest eigenvalues first; the second moments follow their columns."""
    moments, basis = _damped(state[f"moments{side}"]), state[f"basis{side}"]
    order = (basis * (moments @ basis)).sum(0).argsort(descending=True, stable=True)
    state["second"] = state["second"].index_select(side, order)
    state[f"basis{side}"] = torch.linalg.qr(moments @ basis[:, order])[0]
