"""Backbone, reduction and head as one differentiable model of video clips: what the end-to-end stage trains."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import nn

from pipeline.models.backbone import Backbone
from pipeline.models.cues import overview
from pipeline.models.fast_tpn import FastTPN
from pipeline.models.heads import HeadModule, HeadOutput
from pipeline.models.reduction import Standardizer, pattern_vectors

__all__ = ["LiveModel", "unfreeze"]


def unfreeze(network: Backbone, parts: str) -> None:
    """Let the gradient reach some parts of a frozen backbone: `neck`, `last_stage+neck` or `all`."""
    modules: dict[str, list[nn.Module]] = {
        "neck": [network.neck],
        "last_stage+neck": [network.backbone.get_submodule("layer4"), network.neck],
        "all": [network],
    }
    for module in modules[parts]:
        module.requires_grad_(True)


class LiveModel(nn.Module):
    """From clips to logits, the choice of positions (eq. 6) included.

    Args:
        network: in evaluation mode, with those parts unfrozen that are to be trained. Its norms keep their statistics.
        head: takes cue (B, D) and pattern vectors (B, T, D).
        standardizer: of the frozen stage, or None; its constants are not trained.
        k, reduction, relation, enhancement: see `pipeline.models.reduction.pattern_vectors`.
        cue_of, cue_segments: see `pipeline.models.cues.overview`.
        precision: of the backbone's arithmetic, by autocast; maps, reduction and head are float32.
        checkpointing: compute activations a second time in the backward pass instead of keeping them.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        network: Backbone,
        head: HeadModule,
        standardizer: Standardizer | None,
        k: float,
        *,
        reduction: str = "spatial",
        relation: str = "cosine",
        enhancement: bool = True,
        cue_of: str = "video",
        cue_segments: int = 2,
        precision: torch.dtype = torch.float32,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.head, self.precision = network, head, precision
        self.k, self.reduction, self.relation, self.enhancement = k, reduction, relation, enhancement
        self.cue_of, self.cue_segments = cue_of, cue_segments
        self.fast = FastTPN(network, checkpointing=checkpointing)
        self._offset = standardizer.offset if standardizer else None
        if standardizer:
            self.register_buffer("mean", standardizer.mean.clone())
            self.register_buffer("std", standardizer.std.clone())

    @property
    def standardizer(self) -> Standardizer | None:
        """The frozen stage's, on the model's device; None without one."""
        return None if self._offset is None else Standardizer(self.mean, self.std, self._offset)

    def maps(self, clips: torch.Tensor, empty: torch.Tensor | None = None) -> torch.Tensor:
        """Feature maps as the cache would hold them.

        Args:
            clips: (B, T, c, L, H, W, 3) uint8; the maps of the c clips of a segment are averaged.
            empty: (B, H, W) bool, cells that show only the padding of a letterbox: their features are 0.

        Returns:
            (B, T, H, W, D) float32.
        """
        batch, segments, averaged = clips.shape[:3]
        with torch.autocast(clips.device.type, self.precision, enabled=self.precision != torch.float32):
            maps = self.fast(clips.flatten(0, 2))
        maps = maps.unflatten(0, (batch, segments, averaged)).mean(dim=2)
        return maps if empty is None else maps.masked_fill(empty.to(maps.device)[:, None, :, :, None], 0.0)

    def reduce(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Eqs. 1, 2, 5 and 6 of maps (B, T, H, W, D): cue (B, D) and pattern vectors (B, T, D)."""
        if self.standardizer:
            maps = self.standardizer.maps(maps)
        whole = overview(maps, cue_of=self.cue_of, cue_segments=self.cue_segments, relation=self.relation)
        patterns = pattern_vectors(
            maps,
            whole.cue,
            reduction=self.reduction,
            k=self.k,
            relation=self.relation,
            enhancement=self.enhancement,
            cue_of=self.cue_of,
            background=whole.background,
        )
        return whole.cue, patterns.vectors

    def outputs(self, clips: torch.Tensor, seeds: Sequence[str], empty: torch.Tensor | None = None) -> list[HeadOutput]:
        """Logits of every bag.

        Each bag draws its dropout from a seed of its own, so that the grouping of bags changes nothing.

        Args:
            clips: (B, T, c, L, H, W, 3) uint8.
            seeds: B names, of which the dropout's seeds are made.
            empty: see `maps`.

        Returns:
            One output per bag, of a batch of one.
        """
        cues, patterns = self.reduce(self.maps(clips, empty))
        found = []
        for i, seed in enumerate(seeds):
            with torch.random.fork_rng(devices=[cues.device] if cues.is_cuda else []):
                torch.manual_seed(zlib.crc32(seed.encode()))
                found.append(self.head(cues[i : i + 1], patterns[i : i + 1]))
        return found
