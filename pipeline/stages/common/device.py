"""The device of a run, and what depends on it: batch size and precision."""

from __future__ import annotations

import torch

from pipeline.errors import ConfigError

__all__ = ["check_precision", "choose_batch", "choose_precision", "pick_device"]


def pick_device(name: str) -> torch.device:
    """The device of a name; `auto` is the first CUDA device if there is one, else the CPU.

    Raises:
        ConfigError: torch does not know the device, or it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"machine.device: expected auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"machine.device: {name!r} is not there; torch sees {torch.cuda.device_count()} CUDA device(s)"
        )
    return device


def choose_batch(clips: int, device: torch.device) -> int:
    """Clips per batch: as given, or for 0 the default of 32 on a CUDA device and 8 elsewhere."""
    return clips or (32 if device.type == "cuda" else 8)


def choose_precision(precision: str, device: torch.device) -> str:
    """The precision; for `auto` bfloat16 on a CUDA device that has it, float16 on older ones, float32 on a CPU."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if _has_bfloat16(device) else "float16"


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ConfigError if the device has no instructions for the precision: emulation is many times slower."""
    on_cpu = device.type == "cpu"
    supported = {
        "float32": lambda: True,
        "bfloat16": torch.ops.mkldnn._is_mkldnn_bf16_supported if on_cpu else lambda: _has_bfloat16(device),
        "float16": torch.ops.mkldnn._is_mkldnn_fp16_supported if on_cpu else lambda: True,
    }
    if not supported[precision]():
        raise ConfigError(f"backbone.precision: this {device.type} has no instructions for {precision}; use float32")


def _has_bfloat16(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)  # torch's own question counts emulation as support
