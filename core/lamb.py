"""LAMB: Adam whose step of each tensor is scaled to the tensor's norm (You et al., ICLR 2020, arXiv 1904.00962).

As NVIDIA's fused version does it: gradients are first scaled down to a global norm of 1, moments are bias-corrected,
and weight decay is part of the update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn


class Lamb(torch.optim.Optimizer):
    """The optimiser; ``lr`` is the size of a step relative to the tensor it changes."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        decay: float = 0.01,
        max_norm: float = 1.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "decay": decay, "max_norm": max_norm}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not grads:
            return
        norm = torch.nn.utils.get_total_norm(grads)
        for group in self.param_groups:
            scale = (group["max_norm"] / norm).clamp(max=1)
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(group["lr"] * self._update(p, p.grad * scale, group))

    def _update(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> Tensor:
        """The direction of a tensor's step, as long as the tensor itself."""
        state = self.state[p]
        if not state:
            state.update(step=torch.zeros(()), first=torch.zeros_like(p), second=torch.zeros_like(p))
        state["step"] += 1
        (a, b), n = group["betas"], float(state["step"])
        first, second = state["first"].lerp_(grad, 1 - a), state["second"].lerp_(grad * grad, 1 - b)
        update = first / (1 - a**n) / ((second / (1 - b**n)).sqrt() + group["eps"]) + group["decay"] * p
        own, length = p.norm(), update.norm()
        trust = torch.where((own > 0) & (length > 0), own / length, torch.ones_like(own))
        return cast(Tensor, update * trust)
