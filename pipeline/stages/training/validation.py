"""Choices made on the validation split: which epoch's weights are kept, and the threshold of every class.

Validation videos are training videos, so only labels of whole videos are known, and the criteria are those of whole
videos: for the epoch the AUC of the segment consensus (eqs. 8 and 9), for a class's threshold the F1 of a video's
highest segment score. Segments stand in for the windows of test videos, whose clips are denser, so the thresholds are
as good as the scores of segments and windows are alike.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config.heads import GigHead
from pipeline.metrics import video_auc
from pipeline.models.losses import LossSettings, segment_consensus, vs_loss
from pipeline.stages.training.bags import Bags, CachedBags

__all__ = [
    "LiveValidation",
    "Validation",
    "best_threshold",
    "loss_settings",
    "read_thresholds",
    "read_validation_videos",
]

FILE = "selection.json"


class Validation:
    """The validation bags, and the best epoch on them so far.

    Args:
        bags: N reduced videos.
        labels: (N, 1 + C) float32 multi-hot, column 0 Normal.
        p: segments of the consensus.
    """

    def __init__(self, bags: Bags | CachedBags, labels: torch.Tensor, p: int) -> None:
        self.bags, self.labels, self.p = bags, labels.numpy() > 0, p
        self.aucs: list[float] = []
        self.state: dict[str, torch.Tensor] | None = None

    def consider(self, head: torch.nn.Module) -> None:
        """Judge the head after an epoch and keep its weights if it is the best so far; a later equal is not better.

        The head's mode is left as it was.
        """
        training = head.training
        self.aucs.append(self.auc(head.eval()))
        head.train(training)
        if self.best_epoch == len(self.aucs):
            self.state = {name: value.clone() for name, value in head.state_dict().items()}

    def auc(self, head: torch.nn.Module) -> float:
        """The AUC over whole videos of a head in evaluation mode."""
        logits = self._segment_logits(head)
        consensus = segment_consensus(logits.flatten(0, 1), self.p).unflatten(0, logits.shape[:2])
        anomaly = consensus.mean(dim=1)[:, 1:].amax(dim=1).numpy()
        truth = {v: ~self.labels[i, :1] for i, v in enumerate(self.bags.video_ids)}
        return video_auc({v: anomaly[i : i + 1] for i, v in enumerate(self.bags.video_ids)}, truth)

    @property
    def best_epoch(self) -> int | None:
        """The best epoch, from 1; None before the first."""
        return int(np.argmax(self.aucs)) + 1 if self.aucs else None

    def thresholds(self, head: torch.nn.Module) -> list[float | None]:
        """theta of every anomaly class for a head in evaluation mode; None for a class that no validation video has."""
        highest = self._segment_logits(head).sigmoid().amax(dim=2).mean(dim=1)[:, 1:].numpy()
        return [best_threshold(highest[:, i], self.labels[:, 1 + i]) for i in range(highest.shape[1])]

    def checkpoint(self) -> dict[str, Any]:
        """What `restore` needs to go on."""
        return {"aucs": self.aucs, "state": self.state}

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.aucs, self.state = list(checkpoint["aucs"]), checkpoint["state"]

    def judgements(self) -> dict[str, object]:
        """How good the epochs were, for selection.json; every list begins with epoch 1."""
        return {"video_auc": self.aucs}

    def write(self, folder: Path, head: torch.nn.Module, classes: tuple[str, ...]) -> None:
        """Write selection.json: the validation videos, the AUC of every epoch, the epoch kept, and the thresholds."""
        thresholds = self.thresholds(head)
        document = {
            "validation_videos": list(self.bags.video_ids),
            "best_epoch": self.best_epoch,
            **self.judgements(),
            "thresholds": dict(zip(classes, thresholds, strict=True)),
        }
        (folder / FILE).write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")

    def _segment_logits(self, head: torch.nn.Module) -> torch.Tensor:
        """(N, V, T, 1 + C)."""
        with torch.inference_mode():
            logits = [head(cues, patterns).segment_logits for cues, patterns in self.bags.parts()]
        return torch.cat(logits).unflatten(0, self.bags.cues.shape[:2])


class LiveValidation(Validation):
    """The validation split of a fine-tuning, whose clips are encoded anew after every epoch.

    The frozen stage is judged first, as epoch 0. The best epoch is that of the highest AUC; of several with that AUC,
    the one of the lowest loss (eq. 14).

    Args:
        labels: (N, 1 + C) float32 multi-hot.
        settings: of the head.
    """

    def __init__(self, labels: torch.Tensor, settings: GigHead) -> None:
        super().__init__(Bags((), torch.empty(0), torch.empty(0)), labels, settings.p)
        self.settings = settings
        self.losses: list[float] = []

    @property
    def best_epoch(self) -> int | None:
        """The best epoch, from 1, or 0 where none is better than the frozen stage; None before that was judged."""
        ranks = [(auc, -loss) for auc, loss in zip(self.aucs, self.losses, strict=True)]
        return ranks.index(max(ranks)) if ranks else None

    def judge(self, bags: Bags, head: torch.nn.Module) -> bool:
        """Judge a model.

        Args:
            bags: of the validation split, made by the model; on the CPU.
            head: the model's, in evaluation mode; on the CPU.

        Returns:
            Whether the model is the best so far.
        """
        self.bags = bags
        labels = torch.from_numpy(self.labels).float().repeat_interleave(bags.cues.shape[1], dim=0)
        with torch.inference_mode():
            output = head(bags.cues.flatten(0, 1), bags.patterns.flatten(0, 1))
            terms = vs_loss(output.video_logits, output.segment_logits, labels, loss_settings(self.settings))
            self.losses.append(float(terms.total))
        self.aucs.append(self.auc(head))
        return self.best_epoch == len(self.aucs) - 1

    def judgements(self) -> dict[str, object]:
        """How good the epochs were, for selection.json; the frozen stage has a key of its own."""
        return {"frozen_video_auc": self.aucs[0], "video_auc": self.aucs[1:]}


def loss_settings(head: GigHead) -> LossSettings:
    """The constants of the loss from the head's settings."""
    return LossSettings(
        p=head.p, lambda0=head.lambda0, lambda1=head.lambda1, lambda2=head.lambda2, lambda3=head.lambda3
    )


def best_threshold(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """The threshold of the best F1 over videos, half-way to the next lower score (or to 0).

    Of several thresholds with that F1 it is the highest.

    Args:
        scores: (N,) float in [0, 1].
        positive: (N,) bool.

    Returns:
        The threshold; None where no video is positive.
    """
    if not positive.any():
        return None
    values = np.unique(scores)[::-1].astype(np.float64)
    given = scores[None, :] >= values[:, None]
    f1 = 2 * (given & positive).sum(axis=1) / (given.sum(axis=1) + positive.sum())
    best = int(np.argmax(f1))
    return float((values[best] + np.append(values, 0.0)[best + 1]) / 2)


def read_thresholds(folder: Path, classes: tuple[str, ...]) -> list[float | None] | None:
    """The thresholds (C,) chosen for the head in a folder; None when it was trained without a validation split."""
    path = folder / FILE
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))["thresholds"]
    return [found[label] for label in classes]


def read_validation_videos(folder: Path) -> tuple[str, ...]:
    """Ids of the videos on which the head in a folder was judged; none when it was trained without a validation
    split."""
    path = folder / FILE
    return tuple(json.loads(path.read_text(encoding="utf-8"))["validation_videos"]) if path.is_file() else ()
