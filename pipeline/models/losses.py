"""The Video-Segment loss: one function per term of equations 4 and 8 to 13, and their total (12, 14).

Scores are sigmoids, so the maximum of scores is the score of the maximal logit: terms 4 and 10 on a single segment are
exact from logits. The consensus (eq. 8) is a mean of p sigmoids and has no logit; its logarithms are taken by
logsumexp, which keeps gradients finite where scores saturate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

__all__ = [
    "LossSettings",
    "LossTerms",
    "class_loss",
    "consensus_log_scores",
    "segment_consensus",
    "segment_loss",
    "sparse_loss",
    "video_loss",
    "vs_loss",
]


@dataclass(frozen=True)
class LossSettings:
    """The constants of the loss.

    Attributes:
        p: segments of the consensus, eq. 8.
        lambda1: weight of the segment loss, eq. 10.
        lambda2: weight of the class loss, eq. 11.
        lambda3: weight of the sparsity loss, eq. 13.
        lambda0: weight of the cue loss, eq. 4; 1 in the paper.
    """

    p: int
    lambda1: float
    lambda2: float
    lambda3: float
    lambda0: float = 1.0


@dataclass(frozen=True)
class LossTerms:
    """Scalars: the terms before weighting, and the weighted total of eq. 14."""

    video: torch.Tensor
    segment: torch.Tensor
    classes: torch.Tensor
    sparse: torch.Tensor
    total: torch.Tensor

    def by_name(self) -> dict[str, torch.Tensor]:
        """The total, then the terms, in the order in which tables of losses show them."""
        return {
            "total": self.total,
            "video": self.video,
            "segment": self.segment,
            "classes": self.classes,
            "sparse": self.sparse,
        }


def video_loss(video_logits: torch.Tensor, anomalous: torch.Tensor) -> torch.Tensor:
    """Eqs. 3 and 4: cross entropy of the best anomaly class of the cue with y*. (B, 1 + C), (B,) -> scalar."""
    return binary_cross_entropy_with_logits(video_logits[:, 1:].amax(dim=1), anomalous)


def segment_consensus(segment_logits: torch.Tensor, p: int) -> torch.Tensor:
    """Eq. 8: per class, the mean of its top p scores over T. (B, T, 1 + C) -> (B, 1 + C) in [0, 1]."""
    return torch.sigmoid(_top(segment_logits, p)).mean(dim=1)


def consensus_log_scores(segment_logits: torch.Tensor, p: int) -> tuple[torch.Tensor, torch.Tensor]:
    """log S_c and log(1 - S_c) of eq. 8, each (B, 1 + C), finite and with finite gradients at any logits."""
    top = _top(segment_logits, p)
    return (
        torch.logsumexp(logsigmoid(top), dim=1) - math.log(p),
        torch.logsumexp(logsigmoid(-top), dim=1) - math.log(p),
    )


def segment_loss(segment_logits: torch.Tensor, anomalous: torch.Tensor, p: int) -> torch.Tensor:
    """Eqs. 9 and 10: cross entropy of the best anomaly class of the consensus with y*.

    (B, T, 1 + C), (B,) -> scalar.
    """
    positive, negative = consensus_log_scores(segment_logits, p)
    best = positive[:, 1:].argmax(dim=1, keepdim=True)
    log_score = positive[:, 1:].gather(1, best)[:, 0]
    log_rest = negative[:, 1:].gather(1, best)[:, 0]
    return -(anomalous * log_score + (1 - anomalous) * log_rest).mean()


def class_loss(segment_logits: torch.Tensor, video_labels: torch.Tensor, p: int) -> torch.Tensor:
    """Eq. 11: cross entropy of the consensus with y, mean over the 1 + C classes.

    (B, T, 1 + C), (B, 1 + C) -> scalar.
    """
    positive, negative = consensus_log_scores(segment_logits, p)
    return -(video_labels * positive + (1 - video_labels) * negative).mean()


def sparse_loss(segment_logits: torch.Tensor) -> torch.Tensor:
    """Eq. 13: the sum over T of the best anomaly score, mean over the batch. (B, T, 1 + C) -> scalar."""
    return torch.sigmoid(segment_logits[..., 1:].amax(dim=2)).sum(dim=1).mean()


def vs_loss(
    video_logits: torch.Tensor, segment_logits: torch.Tensor, video_labels: torch.Tensor, settings: LossSettings
) -> LossTerms:
    """Eqs. 12 and 14, in float32; in float64 where the labels are.

    Args:
        video_logits: (B, 1 + C), of the cue.
        segment_logits: (B, T, 1 + C).
        video_labels: (B, 1 + C) multi-hot, column 0 Normal.
        settings: p and the weights.

    Raises:
        ValueError: p is not within 1 and T, or shapes do not fit.
    """
    if video_labels.shape != video_logits.shape:
        raise ValueError(f"expected video labels {tuple(video_logits.shape)}, got {tuple(video_labels.shape)}")
    labels = video_labels.float() if video_labels.dtype != torch.float64 else video_labels
    video_logits, segment_logits = video_logits.to(labels.dtype), segment_logits.to(labels.dtype)
    anomalous = 1 - labels[:, 0]
    video = video_loss(video_logits, anomalous)
    segment = segment_loss(segment_logits, anomalous, settings.p)
    classes = class_loss(segment_logits, labels, settings.p)
    sparse = sparse_loss(segment_logits)
    total = (
        settings.lambda0 * video + settings.lambda1 * segment + settings.lambda2 * classes + settings.lambda3 * sparse
    )
    return LossTerms(video, segment, classes, sparse, total)


def _top(segment_logits: torch.Tensor, p: int) -> torch.Tensor:
    """Top p logits of every class over T, (B, p, 1 + C); a sigmoid is monotonic, so they are the top p scores."""
    if not 1 <= p <= segment_logits.shape[1]:
        raise ValueError(f"p: expected 1 to {segment_logits.shape[1]} segments, got {p}")
    return segment_logits.topk(p, dim=1).values
