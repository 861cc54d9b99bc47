"""Checkpoints: reading them without executing anything, and loading them into networks that they fit exactly."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.errors import WeightsError

__all__ = ["load_strictly", "mismatches", "read_checkpoint"]


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, by name. Nothing in the file is executed. Raises WeightsError."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return {name: tensor.float() for name, tensor in load_file(path).items()}
        except Exception as error:  # safetensors raises types of its own
            raise WeightsError(f"{path}: not a safetensors file ({error})") from error
    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling damaged or hostile files raises anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path}: refused; a checkpoint may hold tensors, plain data and mmengine's history only ({reason})"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path}: expected a dictionary of tensors, or one under 'state_dict'")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _allowed_globals() -> list[Callable | tuple[Callable, str]]:
    """What mmengine's checkpoints hold besides tensors: metric history, numpy numbers and arrays."""
    from mmengine.logging import HistoryBuffer

    multiarray = import_module("numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray")
    kinds = {type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "u1", "?")}
    # Files written by numpy 1 name the module numpy.core, those by numpy 2 numpy._core.
    return [
        HistoryBuffer,
        (_history_statistic, "builtins.getattr"),
        (_history_statistic, "__builtin__.getattr"),
        OrderedDict,
        np.ndarray,
        np.dtype,
        *kinds,
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
        (multiarray.scalar, "numpy._core.multiarray.scalar"),
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
        (multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
    ]


def _history_statistic(owner: object, name: str) -> object:
    """Replaces the `getattr` by which a history's pickle names its methods, and gives nothing else."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current", "statistics", "register_statistics"):
        raise WeightsError(f"the file asks for {name!r} of {owner!r}")
    return getattr(HistoryBuffer, name)


def load_strictly(recognizer: nn.Module, state: Mapping[str, torch.Tensor], path: Path, name: str) -> None:
    """Load a checkpoint into a module that it must fit exactly.

    Args:
        recognizer: gets the weights.
        state: the tensors of the checkpoint, by name.
        path: where it is from, for errors.
        name: of the backbone, for errors.

    Raises:
        WeightsError: it is of another network; the message names tensors.
    """
    if problems := mismatches(recognizer.state_dict(), state):
        raise WeightsError(f"{path}: not a checkpoint of {name}: {problems}")
    recognizer.load_state_dict(state, strict=True)


def mismatches(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    """What keeps a state from being that of a network whose own state is given, the first eight; "" if nothing does."""
    problems = [  # the most telling ones first: a file of the same network with other sizes misses nothing
        f"{key}: expected {tuple(own[key].shape)}, got {tuple(state[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    problems += [f"missing {key}" for key in own if key not in state]
    problems += [f"unexpected {key}" for key in state if key not in own]
    return "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
