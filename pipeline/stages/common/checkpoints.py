"""Checkpoints of a long training: written whole or not at all, and only the last few are kept."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import PipelineError
from pipeline.stages.common.outputs import check_space, whole_file

__all__ = ["latest_checkpoint", "save_checkpoint", "tensors_in", "unfit_checkpoint"]

MARGIN_BYTES = 1 << 20


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> None:
    """Write the state after a step, then remove all but the last `keep` checkpoints.

    Checkpoints of later steps are removed too: a training that saves an earlier step could not use them.

    Raises:
        OutputError: the disk has no room for it; nothing was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_space(folder, sum(tensor.nbytes for tensor in tensors_in(state)) + MARGIN_BYTES)
    with whole_file(folder / f"step-{step:09d}.pt") as partial, partial.open("wb") as stream:
        torch.save(state, stream)
    found = sorted(folder.glob("step-*.pt"))
    later = [path for path in found if path.name > f"step-{step:09d}.pt"]
    for old in [*later, *found[: max(0, len(found) - len(later) - keep)]]:
        old.unlink()


def latest_checkpoint(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest state that can be read, with its tensors on the device; None if there is none."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
            continue  # cut short by a crash of the machine: the one before it will do
        return state
    return None


def unfit_checkpoint(path: Path, error: Exception) -> PipelineError:
    """Remove a checkpoint, or a folder of them, from which this training cannot go on.

    It may be from another version of the code.

    Returns:
        The error to raise; it says that the next run starts from the beginning.
    """
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return PipelineError(
        f"{path}: does not fit this training ({error}); it is removed, so the same command begins anew"
    )


def tensors_in(state: object) -> list[torch.Tensor]:
    """All tensors in nested dictionaries, lists and tuples."""
    if isinstance(state, torch.Tensor):
        return [state]
    children = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for child in children for tensor in tensors_in(child)]
