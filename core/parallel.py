"""Processes that train together: rank, world size and sums over ranks, all trivial in a single process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from core.codec import TesseraError


def rank() -> int:
    """This process's number among those that train together (0 when alone)."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", 0))


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """True in the one process that writes files and logs."""
    return rank() == 0


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that ``torchrun`` or ``core.launch`` started; does nothing in a process that is alone.

    They speak gloo on a CPU and nccl on GPUs. One that ends early makes the others end with a sentence.
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield
        return
    place = os.environ.get("TESSERA_MEETING")  # a file, of processes on one machine; else torchrun's address
    options: dict[str, Any] = (
        {"init_method": f"file://{place}", "rank": rank(), "world_size": world_size()} if place else {}
    )
    warnings.filterwarnings("ignore", message="Grad strides do not match")  # dimensions of one have any stride
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", **options)
    try:
        yield
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        raise TesseraError(
            "another of the processes that train together has ended; the same command goes on from the saved state."
        ) from None
    finally:
        dist.destroy_process_group()


def all_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum of ``value`` over all ranks, without gradient (codebook counts, losses for the log)."""
    value = value.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank: all of them get the same answer."""
    if not dist.is_initialized():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return bool(all_sum(torch.tensor(int(flag), device=device)))


def broadcast(value: torch.Tensor) -> torch.Tensor:
    """Overwrite ``value`` in place with that of rank 0 (codebooks initialised from data) and return it."""
    if dist.is_initialized():
        dist.broadcast(value, src=0)
    return value
