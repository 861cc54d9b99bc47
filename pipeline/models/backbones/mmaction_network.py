"""Recognisers of mmaction2's zoo as feature extractors: built by the name of a shipped configuration, ending in maps.

Nothing is downloaded: what a configuration says of weights to start from is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.models.backbone import build_quietly

__all__ = ["MapsOfClips", "build_recognizer", "drop_heads", "initialise", "shipped_config", "shipped_names"]

TIMESFORMER_PATCH = 16
"""Pixels, in all shipped configurations."""


@lru_cache(maxsize=1)
def _files() -> dict[str, Path]:
    import mmaction

    folder = Path(mmaction.__file__).parent / ".mim" / "configs" / "recognition"
    return {path.stem: path for path in sorted(folder.rglob("*.py"))}


def shipped_names() -> tuple[str, ...]:
    """Names of all recognition configurations that the installed mmaction2 ships."""
    return tuple(_files())


def shipped_config(name: str) -> Any:
    """A shipped configuration by its name, as mmengine reads it.

    Raises:
        ConfigError: mmaction2 ships none of this name.
    """
    from mmengine.config import Config

    if name not in _files():
        raise ConfigError(f"backbone.name: mmaction2 ships no recogniser named {name!r}; `gig backbones` lists them")
    return Config.fromfile(_files()[name])


def build_recognizer(name: str, seed: int = 0) -> nn.Module:
    """A recogniser as shipped, with the weights that its modules have when they are made.

    Args:
        name: of a shipped configuration.
        seed: of those weights.

    Raises:
        ConfigError: there is no such configuration, or its network is of another library.
    """
    model = shipped_config(name).model
    library, dot, _ = str(model.backbone.type).partition(".")
    if dot:
        raise ConfigError(f"its network is not mmaction2's but of {library}")
    _without_starting_weights(model)
    if model.backbone.type == "UniFormerV2":
        model.backbone.clip_pretrained = False
    if model.backbone.type == "VisionTransformer":
        model.backbone.return_feat_map = True  # tokens in place of their mean; the same weights
    recognizer = build_quietly(model, seed)
    recognizer.requires_grad_(False)
    recognizer.eval()
    return recognizer


def _without_starting_weights(node: object) -> None:
    if isinstance(node, dict):
        node.pop("init_cfg", None)
        if "pretrained" in node:  # some networks have no default
            node["pretrained"] = None
    for value in _values(node):
        _without_starting_weights(value)


def _values(node: object) -> Iterator[object]:
    if isinstance(node, dict):
        yield from node.values()
    elif isinstance(node, list | tuple):
        yield from node


def drop_heads(recognizer: nn.Module) -> None:
    """Take the recognition head, and the neck's auxiliary head, from a recogniser: features do not need them."""
    if "cls_head" in dict(recognizer.named_children()):
        del recognizer.cls_head
    neck = dict(recognizer.named_children()).get("neck")
    if neck is not None and "aux_head" in dict(neck.named_children()):
        neck.register_module("aux_head", None)


def initialise(recognizer: nn.Module, seed: int) -> None:
    """Random weights for convolutions, which keep the scale of activations; others stay as they are.

    They are smaller than He's: most of these networks are sums over many blocks, which otherwise grow with the depth.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in recognizer.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class MapsOfClips(nn.Module):
    """A recogniser whose output is its last spatial map, one for each time step that is left.

    It computes what mmaction2's `extract_feat` computes: the backbone, then the neck where there is one. What this
    gives is a map for most recognisers. The others:

    - SlowFast has a map for each of its two pathways;
    - MViT gives a class token with its map, which is left out;
    - the tokens of TimeSformer are taken after its last norm, of which mmaction2 keeps the class token;
    - those of UniFormerV2 are taken after its last local block, behind which only a class token goes on.

    Args:
        recognizer: in evaluation mode.

    Attributes:
        by_frame: whether the maps of a frame do not depend on the other frames of the clip.
    """

    def __init__(self, recognizer: nn.Module) -> None:
        super().__init__()
        self.recognizer = recognizer
        backbone = recognizer.get_submodule("backbone")
        kind, self._whole = type(backbone).__name__, type(recognizer).__name__
        self.by_frame = self._whole == "Recognizer2D" and kind == "ResNet" and not hasattr(recognizer, "neck")
        self._grid: Callable[[torch.Tensor, torch.Size], torch.Tensor] | None = None
        self._tokens: torch.Tensor | None = None
        if kind == "TimeSformer":
            self._grid, last = _timesformer_grid, backbone.get_submodule("norm")
            last.register_forward_hook(self._keep)
        elif kind == "UniFormerV2":
            self._grid, last = _uniformer_v2_grid, [*backbone.get_submodule("transformer.resblocks").children()][-1]
            last.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        self._tokens = output

    def forward(self, clips: torch.Tensor) -> list[torch.Tensor]:
        """Maps of standardised clips.

        Args:
            clips: (N, 3, L, H, W).

        Returns:
            One of (N, D, steps, rows, columns), or two for SlowFast, which differ in D and steps.
        """
        if self._whole == "Recognizer2D":
            inputs = clips.transpose(1, 2).contiguous()
        else:
            inputs = clips[:, None] if self._whole == "Recognizer3D" else clips
        output = cast(Callable[..., Any], self.recognizer.extract_feat)(inputs)
        features = output[0] if isinstance(output, tuple) else output
        if self._grid is not None:
            tokens, self._tokens = self._tokens, None
            assert tokens is not None  # the hook has run
            return [self._grid(tokens, clips.shape)]
        levels = list(features) if isinstance(features, list | tuple) else [features]
        maps = [level[0] if isinstance(level, list | tuple) else level for level in levels]
        if maps[0].ndim == 4:  # of single frames, or of clips whose neck leaves one step
            maps = [each.unflatten(0, (len(clips), -1)).transpose(1, 2) for each in maps]
        return maps


def _timesformer_grid(tokens: torch.Tensor, clips: torch.Size) -> torch.Tensor:
    """(N, 1 + rows * columns * steps, D): after the class token the steps of the first cell, then of the next."""
    rows, columns = (pixels // TIMESFORMER_PATCH for pixels in clips[-2:])
    return tokens[:, 1:].unflatten(1, (rows, columns, -1)).permute(0, 4, 3, 1, 2)


def _uniformer_v2_grid(tokens: torch.Tensor, clips: torch.Size) -> torch.Tensor:
    """(1 + rows * columns, N * steps, D), as many rows as columns."""
    cells = tokens[1:]
    rows = math.isqrt(len(cells))
    return cells.unflatten(0, (rows, rows)).unflatten(2, (clips[0], -1)).permute(2, 4, 3, 0, 1)
