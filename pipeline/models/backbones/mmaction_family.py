"""Recognisers of mmaction2's zoo, `mmaction:<name of a shipped configuration>`, in mmaction2's own form.

A clip's maps are averaged over the time steps that its recogniser leaves; SlowFast's two pathways are averaged each and
put one behind the other, as its own head does before it classifies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from pipeline.config.features import Backbone as Settings
from pipeline.models.backbones.interface import BackboneFacts, VideoBackbone
from pipeline.models.backbones.mmaction_network import MapsOfClips, build_recognizer, drop_heads, initialise
from pipeline.models.backbones.mmaction_zoo import recogniser
from pipeline.models.checkpoints import load_strictly, read_checkpoint
from pipeline.models.weights import check_suffix, weights_path, weights_sha256

__all__ = ["ZooBackbone", "facts", "load", "restore", "tensors"]


class ZooBackbone(VideoBackbone):
    """A recogniser as a feature extractor.

    Args:
        facts: of it.
        network: gives the maps of standardised clips.
        weights_sha256: SHA-256 of its weight file, or `random-<seed>`.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, facts: BackboneFacts, network: MapsOfClips, weights_sha256: str) -> None:
        super().__init__(facts, weights_sha256)
        self.network = network
        self.register_buffer("mean", torch.tensor(facts.mean).view(3, 1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(facts.std).view(3, 1, 1, 1), persistent=False)
        self.dtype = torch.float32
        self.requires_grad_(False)
        self.eval()

    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute in float32, bfloat16 or float16, the latter two as mixed precision (torch.autocast).

        Not all of mmaction2's networks can compute with weights of another type than float32.
        """
        self.dtype = dtype

    def frames(self, images: torch.Tensor) -> torch.Tensor:
        """The maps of single frames for a recogniser that has them; for others the pictures themselves.

        Args:
            images: (n, H, W, 3) uint8 RGB.

        Returns:
            (n, D, rows, columns), or (n, 3, H, W) uint8.
        """
        pictures = images.permute(0, 3, 1, 2)
        return self._maps(pictures[None]).to(self.dtype) if self.network.by_frame else pictures

    def clips(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps of clips.

        Args:
            frames: (L, N, C, h, w), outputs of `frames`.

        Returns:
            (N, rows, columns, D) float32.
        """
        self.facts.check_clip(len(frames))
        maps = frames.float().mean(0) if self.network.by_frame else self._maps(frames)
        return maps.permute(0, 2, 3, 1).float().contiguous()

    def _maps(self, pictures: torch.Tensor) -> torch.Tensor:
        """(L, N, 3, H, W) uint8 -> (N, D, rows, columns)."""
        clips = pictures.permute(1, 2, 0, 3, 4).float().sub_(self.mean).div_(self.std)
        with torch.autocast(clips.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            maps = self.network(clips.contiguous())
        return torch.cat([each.float().mean(2) for each in maps], dim=1)


def facts(settings: Settings) -> BackboneFacts:
    """What is known without the weights. Raises ConfigError."""
    known = recogniser(settings.model)
    return BackboneFacts(
        name=settings.name,
        channels=known.channels,
        cell=known.cell,
        longest_clip=known.longest,
        size=(known.size, known.size),
        any_size=known.any_size,
        mean=known.mean,
        std=known.std,
        non_negative=known.non_negative,
        shortest_clip=known.shortest,
        clip_multiple=known.multiple,
    )


def load(settings: Settings) -> ZooBackbone:
    """The recogniser with a checkpoint of all of it, its head included, which is then dropped.

    Raises:
        ConfigError: there is no such recogniser, or it cannot be used.
        WeightsError: the file does not exist, is damaged, belongs to another network, or holds more than tensors and
            plain data.
    """
    known = facts(settings)
    if settings.weights == "random":
        recognizer = build_recognizer(settings.model, settings.seed)
        initialise(recognizer, settings.seed)
        sha256 = f"random-{settings.seed}"
    else:
        path = weights_path(settings.weights, settings.name)
        sha256 = weights_sha256(settings.weights, settings.name)
        check_suffix(path, sha256)
        recognizer = build_recognizer(settings.model)
        load_strictly(recognizer, read_checkpoint(path), path, settings.name)
    drop_heads(recognizer)
    return ZooBackbone(known, MapsOfClips(recognizer), sha256)


def tensors(settings: Settings) -> Mapping[str, torch.Tensor]:
    """The weights by mmaction2's names, without those of the recogniser's heads. Raises as `load`."""
    return load(settings).network.recognizer.state_dict()


def restore(settings: Settings, state: Mapping[str, torch.Tensor], weights_sha256: str, where: Path) -> ZooBackbone:
    """The backbone of what `tensors` gave. Raises ConfigError or WeightsError."""
    known = facts(settings)
    recognizer = build_recognizer(settings.model)
    drop_heads(recognizer)
    load_strictly(recognizer, state, where, settings.name)
    return ZooBackbone(known, MapsOfClips(recognizer), weights_sha256)
