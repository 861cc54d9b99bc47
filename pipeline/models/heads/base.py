"""The interface of heads.

A head takes what the reduction keeps of feature maps, the cue (B, D) and one vector per segment or window, (B, T, D).
It gives scores and its own loss. Two attributes say what else it needs: whether batches must hold as many normal as
anomalous bags, and how many windows of a video it sees at a time.

Most methods of the field are binary: they say how anomalous a segment is, not of which class. `BinaryHead` gives them
class columns by one convention. The highest anomaly column is the method's own score, so that every metric of anomaly
in general is the method's own. With several classes the other columns are that score times the relative probability of
the class, from a linear read-out of the input vectors. The read-out is trained by the video labels beside the method
and does not touch the method's gradients.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.functional import log_softmax, logsigmoid

__all__ = [
    "HEADS",
    "BinaryHead",
    "HeadModule",
    "HeadOutput",
    "build_head",
    "normal_bags",
    "register",
    "strongest",
    "top_mean",
]

HEADS: dict[str, Callable[..., HeadModule]] = {}
WINDOWS_IN_CONTEXT = 512


@dataclass(frozen=True)
class HeadOutput:
    """Logits of a batch of bags.

    Attributes:
        video_logits: (B, 1 + C), of whole videos; for `gig` phi1 of the cue. Column 0 is Normal.
        segment_logits: (B, T, 1 + C); for `gig` phi2 of the pattern vectors.
        anomaly_logits: (B, T), a binary method's own score, equal to the highest anomaly column of `segment_logits`;
            None for a method that has no score besides those of the classes.
        parts: what the head's loss needs in addition.
        positions: (B, T, k), the cells chosen by a head that reduces the maps itself; None for other heads.
        relations: (B, T, H x W), by which it chose them.
    """

    video_logits: torch.Tensor
    segment_logits: torch.Tensor
    anomaly_logits: torch.Tensor | None = None
    parts: dict[str, torch.Tensor] = field(default_factory=dict)
    positions: torch.Tensor | None = None
    relations: torch.Tensor | None = None

    @property
    def segment_scores(self) -> torch.Tensor:
        """Eq. 7, (B, T, 1 + C) in [0, 1]."""
        return torch.sigmoid(self.segment_logits)

    @property
    def anomaly_scores(self) -> torch.Tensor:
        """How anomalous every segment is, (B, T) in [0, 1]: the highest anomaly column of `segment_scores`.

        It is taken from those scores, not computed from `anomaly_logits`: two sigmoids of one logit can differ in the
        last bit, since torch uses different code for full vectors and for the rest of an array.
        """
        return self.segment_scores[..., 1:].amax(dim=-1)


class HeadModule(nn.Module):
    """A head.

    Args:
        channels: D.
        classes: C.

    Attributes:
        pairs: whether batches must hold as many normal as anomalous bags, the normal ones first.
        context: how many windows of a video are scored together, for heads whose score depends on other windows; None
            for other heads. A longer video is cut into parts of about equal length, so that memory is bounded; a head
            sees nothing across a cut.
    """

    pairs = False
    context: int | None = None

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes

    def forward(self, cue: torch.Tensor, patterns: torch.Tensor) -> HeadOutput:
        """Logits of cues (B, D) and vectors (B, T, D)."""
        raise NotImplementedError("a head gives logits")

    def scale(self, cue: torch.Tensor) -> torch.Tensor | None:
        """Per-channel scale (B, D) of maps with these cues (B, D), applied before the reduction; None if unused."""
        return None

    def loss(self, output: HeadOutput, video_labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss of a batch.

        Args:
            output: of `forward` in training mode.
            video_labels: (B, 1 + C) float32 multi-hot, column 0 Normal.

        Returns:
            Scalars by name: `total`, which is minimised, and its terms before weighting.
        """
        raise NotImplementedError("a head that is trained has a loss")


class BinaryHead(HeadModule):
    """A head of a binary method; the module's docstring says what its class columns are.

    A subclass implements `method`, which gives its parts with the logit of its score, and `method_loss`. Batches hold
    as many normal as anomalous bags unless it says otherwise.
    """

    pairs = True

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels, classes)
        self.readout = nn.Linear(channels, classes) if classes > 1 else None

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """The method's parts for vectors (B, T, D); `logits` (B, T) is its score before a sigmoid."""
        raise NotImplementedError("a binary method scores segments")

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The method's loss of a batch.

        Args:
            parts: of `method` in training mode.
            anomalous: (B,) bool, by the video labels.

        Returns:
            Scalars by name: `total`, which is minimised, and its terms before weighting.
        """
        raise NotImplementedError("a method has a loss")

    def forward(self, cue: torch.Tensor, patterns: torch.Tensor) -> HeadOutput:
        """Logits of vectors (B, T, D); the cue is not used."""
        parts = self.method(patterns)
        own = parts["logits"]
        if self.readout is not None:
            parts["readout"] = self.readout(patterns)
        with torch.no_grad():
            anomaly = self._columns(own, parts.get("readout"))
            segments = torch.cat([-own[..., None], anomaly], dim=-1)
            video = torch.cat([-own.amax(dim=1, keepdim=True), anomaly.amax(dim=1)], dim=-1)
        return HeadOutput(video, segments, own, parts)

    def loss(self, output: HeadOutput, video_labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The method's loss plus the read-out's.

        The latter is the cross entropy of an anomalous video's classes with the softmax of the read-out. The read-out
        of a bag is its mean over segments, weighted by the method's scores.
        """
        anomalous = video_labels[:, 0] == 0
        terms = self.method_loss(output.parts, anomalous)
        if self.readout is not None:
            with torch.no_grad():
                weights = torch.sigmoid(output.parts["logits"])
                weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12)
            bag = (weights[..., None] * output.parts["readout"]).sum(dim=1)
            wanted = video_labels[:, 1:] / video_labels[:, 1:].sum(dim=1, keepdim=True).clamp_min(1)
            terms["readout"] = -(wanted * log_softmax(bag, dim=-1)).sum() / anomalous.sum().clamp_min(1)
            terms["total"] = terms["total"] + terms["readout"]
        return terms

    def _columns(self, own: torch.Tensor, readout: torch.Tensor | None) -> torch.Tensor:
        """Logits (B, T, C) of the score times a class's probability over that of the likeliest class.

        The highest of a segment is exactly `own`.
        """
        if readout is None:
            return own[..., None].expand(*own.shape, self.classes)
        share = log_softmax(readout, dim=-1)
        share = share - share.amax(dim=-1, keepdim=True)
        product = (logsigmoid(own)[..., None] + share).clamp_max(-1e-7)
        others = product - torch.log(-torch.expm1(product))
        # Rounding must lift no class above the likeliest.
        return torch.where(share == 0, own[..., None], torch.minimum(others, own[..., None]))


def top_mean(values: torch.Tensor, count: int) -> torch.Tensor:
    """Mean of the `count` largest of every row, (B, T) -> (B,)."""
    return values.topk(count, dim=1).values.mean(dim=1)


def strongest(features: torch.Tensor, ranks: torch.Tensor, count: int) -> torch.Tensor:
    """Mean of the features at the `count` segments of highest rank, (B, T, D), (B, T) -> (B, D)."""
    chosen = ranks.topk(count, dim=1).indices
    return features.gather(1, chosen[..., None].expand(-1, -1, features.shape[-1])).mean(dim=1)


def normal_bags(name: str, anomalous: torch.Tensor) -> int:
    """The number of normal bags of a batch, for a head that pairs them in order with the anomalous ones.

    Args:
        name: of the head, for the error.
        anomalous: (B,) bool.

    Raises:
        ValueError: the batch is not one half of normal bags and then one half of anomalous bags.
    """
    half = len(anomalous) // 2
    if anomalous[:half].any() or not anomalous[half:].all() or len(anomalous) != 2 * half:
        raise ValueError(f"{name}: expected as many normal as anomalous bags, the normal ones first")
    return half


def register(name: str) -> Callable[[type[HeadModule]], type[HeadModule]]:
    """Class decorator that puts a head into `HEADS` under a name."""

    def add(kind: type[HeadModule]) -> type[HeadModule]:
        HEADS[name] = kind
        return kind

    return add


def build_head(name: str, *, channels: int, classes: int, **options: object) -> HeadModule:
    """Make a head.

    Args:
        name: one of `HEADS`.
        channels: D.
        classes: C, without Normal.
        options: of the head's constructor.

    Raises:
        ValueError: there is no such head; names the nearest.
    """
    if name not in HEADS:
        near = difflib.get_close_matches(name, HEADS, n=1, cutoff=0.0)
        raise ValueError(f"unknown head {name!r}; did you mean {near[0]!r}? There are {', '.join(HEADS)}")
    return HEADS[name](channels=channels, classes=classes, **options)
