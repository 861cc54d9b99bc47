"""`gig` heads trained as one tensor program, without autograd.

Runs that see the same bags in the same order with the same dropout differ only in lambdas, p and learning rate. Their
heads are rows of one matrix, so that a step costs a few large products in place of many small ones. A sum of their
losses has the gradients of each, and the optimiser works element by element: the result is that of training them one by
one, up to the order of sums. One run is a stack of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.config import Run, digest
from pipeline.errors import PipelineError
from pipeline.models.heads.dropout import dropout
from pipeline.models.heads.gig import GIGHead
from pipeline.models.vs_gradients import SegmentWeights, segment_gradient, video_gradient
from pipeline.progress import Progress
from pipeline.stages.common.malloc import heap_kept
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.learner import diverged, epoch_count, epochs
from pipeline.stages.training.saved_heads import make_head
from pipeline.stages.training.validation import Validation

__all__ = ["Stack", "fit_stack", "stack_key"]

EPSILON = 1e-10  # Adagrad's, as in torch


def stack_key(run: Run) -> str | None:
    """Runs of one key, on one reduction, can be stacked; None for a run that cannot."""
    if (
        run.head.name != "gig"
        or run.head.channel_attention
        or run.training.optimizer != "adagrad"
        or run.training.clip_norm
    ):
        return None
    training = run.training.model_dump(exclude={"learning_rate"})
    return digest(training, run.selection, run.head.dropout)


def fit_stack(
    bags: Bags,
    labels: torch.Tensor,
    runs: Sequence[Run],
    classes: int,
    validations: Sequence[Validation] | None = None,
    progress: Progress | None = None,
) -> list[tuple[GIGHead, list[dict[str, float]]] | PipelineError]:
    """As `pipeline.stages.training.train.fit`, for R runs of one `stack_key`, without checkpoints and TensorBoard.

    Args:
        bags, labels, classes: as `fit`.
        runs: the settings.
        validations: one a run.
        progress: called once an epoch.

    Returns:
        For every run its head, in evaluation mode, and the mean loss terms of every epoch; or, of a run whose training
        diverged, the error that `fit` would raise. The others are none the worse for it.
    """
    training = runs[0].training
    heads = [make_head(run.head, run.training, bags.cues.shape[-1], classes) for run in runs]
    generator = torch.Generator().manual_seed(training.seed)
    histories: list[list[dict[str, float]]] = [[] for _ in runs]
    failed: dict[int, PipelineError] = {}
    last = epoch_count(training, labels, Stack.pairs)
    with torch.random.fork_rng(devices=[]), heap_kept(torch.device("cpu")):
        torch.manual_seed(training.seed)
        for epoch, means in epochs(Stack(heads, runs), bags, labels, training, generator):
            for r, (run, head) in enumerate(zip(runs, heads, strict=True)):
                if r in failed:
                    continue
                histories[r].append({name: value[r].item() for name, value in means.items()})
                if error := diverged(head, histories[r][-1]["total"], epoch, run):
                    failed[r] = error
                elif validations:
                    validations[r].consider(head)
            if progress:
                progress(epoch, last, f"training {len(runs)} heads")
            if len(failed) == len(runs):
                break
    for head, validation in zip(heads, validations or (), strict=False):
        if validation.state:
            head.load_state_dict(validation.state)
    return [failed.get(r) or (head.eval(), histories[r]) for r, head in enumerate(heads)]


class Stack:
    """R heads and their Adagrad, a `Learner`.

    phi1 learns from l_g alone: runs of one lambda0 and learning rate have one phi1, which is kept once.

    Args:
        heads: R, with which training begins, and which `write` brings up to date.
        runs: their settings, of one `stack_key`.
    """

    pairs = False

    def __init__(self, heads: Sequence[GIGHead], runs: Sequence[Run]) -> None:
        self.heads = heads
        self.rate, self.decay = runs[0].head.dropout, runs[0].training.weight_decay
        cues = [(run.head.lambda0, run.training.learning_rate) for run in runs]
        kept = list(dict.fromkeys(cues))
        self.cue_of = [kept.index(pair) for pair in cues]  # (R,) which phi1
        layers = [heads[cues.index(pair)].phi1 for pair in kept] + [head.phi2 for head in heads]
        self.outputs = layers[0].out_features
        self.cue_rows = len(kept) * self.outputs  # all phi1 lie before all phi2
        self.weight = torch.cat([layer.weight.detach() for layer in layers])
        self.bias = torch.cat([layer.bias.detach() for layer in layers])
        self.gradients = torch.empty_like(self.weight), torch.empty_like(self.bias)
        self.squares = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        speeds = [speed for _, speed in kept] + [run.training.learning_rate for run in runs]
        self.speeds = torch.tensor(speeds).repeat_interleave(self.outputs)
        self.lambda0, self.cue_weights = (torch.tensor([pair[0] for pair in pairs]) for pairs in (cues, kept))
        names = ("p", "lambda1", "lambda2", "lambda3")
        self.weights = SegmentWeights(
            *(torch.tensor([float(getattr(run.head, name)) for run in runs]) for name in names)
        )

    @torch.inference_mode()
    def step(self, cues: torch.Tensor, patterns: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """As `Learner`; patterns are (B, T, D)."""
        if self.rate:
            cues, patterns = dropout(cues, self.rate), dropout(patterns, self.rate)
        segments = patterns.flatten(0, 1)
        parts = slice(self.cue_rows), slice(self.cue_rows, None)
        seen = cues, segments
        logits = [torch.addmm(self.bias[rows], x, self.weight[rows].T) for rows, x in zip(parts, seen, strict=True)]
        video, by_video = video_gradient(logits[0].unflatten(1, (-1, self.outputs)), 1 - labels[:, 0], self.cue_weights)
        shape = *patterns.shape[:2], -1, self.outputs
        terms, by_segments = segment_gradient(logits[1].view(shape), labels, self.weights)
        for rows, x, slope in zip(parts, seen, (by_video.flatten(1), by_segments.view(len(segments), -1)), strict=True):
            torch.mm(slope.T, x, out=self.gradients[0][rows])
            torch.sum(slope, dim=0, out=self.gradients[1][rows])
        self._update(self.weight, self.gradients[0], self.squares[0], self.speeds[:, None])
        self._update(self.bias, self.gradients[1], self.squares[1], self.speeds)
        video, (segment, classes, sparse), weights = video[self.cue_of], terms, self.weights
        total = self.lambda0 * video + weights.lambda1 * segment + weights.lambda2 * classes + weights.lambda3 * sparse
        return {"total": total, "video": video, "segment": segment, "classes": classes, "sparse": sparse}

    def _update(
        self, values: torch.Tensor, gradient: torch.Tensor, squares: torch.Tensor, speeds: torch.Tensor
    ) -> None:
        """Adagrad (Duchi, Hazan, Singer 2011), as in torch; the gradient is used up."""
        if self.decay:
            gradient.add_(values, alpha=self.decay)
        squares.addcmul_(gradient, gradient)
        values.addcdiv_(gradient.mul_(speeds), squares.sqrt().add_(EPSILON), value=-1)

    @torch.no_grad()
    def write(self) -> None:
        """As `Learner`."""
        weights, biases = self.weight.split(self.outputs), self.bias.split(self.outputs)
        first = self.cue_rows // self.outputs
        for r, head in enumerate(self.heads):
            for layer, i in ((head.phi1, self.cue_of[r]), (head.phi2, first + r)):
                layer.weight.copy_(weights[i])
                layer.bias.copy_(biases[i])

    def state_dict(self) -> dict:
        """As `Learner`."""
        return {"weight": self.weight, "bias": self.bias, "squares": list(self.squares)}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """As `Learner`."""
        saved = state["weight"], state["bias"], *state["squares"]
        for own, value in zip((self.weight, self.bias, *self.squares), saved, strict=True):
            own.copy_(value)
        self.write()
