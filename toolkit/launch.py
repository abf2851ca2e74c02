"""One process or several: what `accelerate launch` (or torchrun) told this process about its place among the others."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from toolkit.errors import UsageError

PATIENCE = timedelta(days=2)  # ranks wait for the slowest one at the end; shards are even in number, not in time


class Place(NamedTuple):
    """This process among ``world`` processes.

    Attributes:
        barrier: returns when all processes have called it.
        device: what "auto" means for this process: its own accelerator, or the CPU.
    """

    rank: int
    world: int
    barrier: Callable[[], None]
    device: str


def place(device: str = "auto") -> Place | None:
    """This process's place if a launcher started several, else None. Initialises torch.distributed (gloo on CPU).

    Raises: UsageError: if the launcher's variables are not numbers, or ``device`` would put all processes on one accelerator.
    """
    try:
        world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    except ValueError as error:
        raise UsageError(f"RANK and WORLD_SIZE must be numbers: {error}", hint="start with `accelerate launch -m cli eval ...`") from error
    if world <= 1:
        return None
    if ":" in device:
        raise UsageError(f"--device {device} puts all {world} processes on one device", hint="leave --device out or name only its kind")
    import torch
    from accelerate import PartialState

    on_cpu = device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu, timeout=PATIENCE)
    own = device if on_cpu else str(state.device)
    return Place(rank, world, state.wait_for_everyone, own)


def leave() -> None:
    """Close the process group, if there is one: otherwise the others report a lost peer."""
    dist = sys.modules.get("torch.distributed")  # not imported: then nothing is open, and an early error stays quick
    if dist is not None and dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
