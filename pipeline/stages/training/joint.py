"""Several `gig` heads trained jointly, as one tensor program without autograd.

Runs that see the same bags in the same order with the same dropout differ only in lambdas, p and learning rate. Their
heads are rows of one matrix, so that a step costs a few large products in place of many small ones. The gradients of
the sum of their losses are those of each loss, and the optimiser works element by element. So the result is that of
training them one by one, up to the order of sums. A single run is trained the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.config import Run, digest
from pipeline.config.heads import GigHead
from pipeline.errors import PipelineError
from pipeline.models.heads.dropout import dropout
from pipeline.models.heads.gig import GIGHead
from pipeline.models.vs_gradients import SegmentWeights, segment_gradient, video_gradient
from pipeline.progress import Progress
from pipeline.stages.common.malloc import heap_kept
from pipeline.stages.training.bags import Bags
from pipeline.stages.training.learner import State, diverged, epoch_count, epochs
from pipeline.stages.training.saved_heads import make_head
from pipeline.stages.training.validation import Validation

__all__ = ["JointLearner", "fit_jointly", "joint_key"]

EPSILON = 1e-10  # Adagrad's, as in torch


def joint_key(run: Run) -> str | None:
    """Runs with equal keys and one reduction can be trained jointly; None for a run that cannot be."""
    head, training = run.head, run.training
    if not isinstance(head, GigHead) or head.channel_attention or training.optimizer != "adagrad" or training.clip_norm:
        return None
    return digest(training.model_dump(exclude={"learning_rate"}), run.selection, head.dropout)


def fit_jointly(
    bags: Bags,
    labels: torch.Tensor,
    runs: Sequence[Run],
    classes: int,
    validations: Sequence[Validation] | None = None,
    progress: Progress | None = None,
) -> list[tuple[GIGHead, list[dict[str, float]]] | PipelineError]:
    """Train R runs of one `joint_key` as `pipeline.stages.training.train.fit_head` trains one.

    There are no checkpoints and no TensorBoard events.

    Args:
        bags: N reduced videos.
        labels: (N, 1 + C) float32 multi-hot, column 0 Normal, in the order of the bags.
        runs: the settings.
        classes: C.
        validations: one per run; judges its head after every epoch.
        progress: called once per epoch.

    Returns:
        For every run its head, in evaluation mode, and the mean loss terms of every epoch. For a run whose training
        diverged, the error that `fit_head` would raise instead; the other runs are not affected.
    """
    training = runs[0].training
    heads = [_gig_head(run, bags.cues.shape[-1], classes) for run in runs]
    generator = torch.Generator().manual_seed(training.seed)
    histories: list[list[dict[str, float]]] = [[] for _ in runs]
    failed: dict[int, PipelineError] = {}
    last = epoch_count(training, labels, JointLearner.pairs)
    with torch.random.fork_rng(devices=[]), heap_kept(torch.device("cpu")):
        torch.manual_seed(training.seed)
        for epoch, means in epochs(JointLearner(heads, runs), bags, labels, training, generator):
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
    if validations:
        for head, validation in zip(heads, validations, strict=True):
            if validation.state:
                head.load_state_dict(validation.state)
    return [failed.get(r) or (head.eval(), histories[r]) for r, head in enumerate(heads)]


class JointLearner:
    """R heads and their Adagrad, a `Learner`.

    phi1 learns from l_g alone, so runs with one lambda0 and learning rate have one phi1, which is kept once. With U
    such pairs of (lambda0, learning rate), `weight` has these rows of D columns, and `bias` the same rows:

        row 0                   phi1 of pair 0: Normal, then C anomaly classes
        row 1 + C               phi1 of pair 1
        ...
        row U (1 + C)           phi2 of run 0
        row (U + 1) (1 + C)     phi2 of run 1
        ...
        row (U + R) (1 + C)     end

    Args:
        heads: R heads, with whose weights training begins, and which `write` updates.
        runs: their settings, of one `joint_key`.
    """

    pairs = False

    def __init__(self, heads: Sequence[GIGHead], runs: Sequence[Run]) -> None:
        settings = [_gig_settings(run) for run in runs]
        self.heads = heads
        self.dropout_rate, self.decay = settings[0].dropout, runs[0].training.weight_decay
        rates = [run.training.learning_rate for run in runs]
        pairs = [(head.lambda0, rate) for head, rate in zip(settings, rates, strict=True)]
        distinct = list(dict.fromkeys(pairs))
        self.pair_of_run = [distinct.index(pair) for pair in pairs]
        layers = [heads[pairs.index(pair)].phi1 for pair in distinct] + [head.phi2 for head in heads]
        self.outputs = layers[0].out_features  # 1 + C
        self.cue_rows = slice(0, len(distinct) * self.outputs)
        self.segment_rows = slice(len(distinct) * self.outputs, None)
        self.weight = torch.cat([layer.weight.detach() for layer in layers])
        self.bias = torch.cat([layer.bias.detach() for layer in layers])
        self.weight_gradient, self.bias_gradient = torch.empty_like(self.weight), torch.empty_like(self.bias)
        self.weight_squares, self.bias_squares = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        self.learning_rates = torch.tensor([rate for _, rate in distinct] + rates).repeat_interleave(self.outputs)
        self.rates = self.learning_rates  # of the following steps
        self.lambda0_of_pairs = torch.tensor([lambda0 for lambda0, _ in distinct])
        self.lambda0 = torch.tensor([lambda0 for lambda0, _ in pairs])
        self.weights = SegmentWeights(
            p=torch.tensor([float(head.p) for head in settings]),
            lambda1=torch.tensor([head.lambda1 for head in settings]),
            lambda2=torch.tensor([head.lambda2 for head in settings]),
            lambda3=torch.tensor([head.lambda3 for head in settings]),
        )

    @torch.inference_mode()
    def step(self, cues: torch.Tensor, patterns: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """One step.

        Args:
            cues: (B, D).
            patterns: (B, T, D).
            labels: (B, 1 + C) float32 multi-hot.

        Returns:
            The terms of the loss before the step, each (R,).
        """
        if self.dropout_rate:
            cues, patterns = dropout(cues, self.dropout_rate), dropout(patterns, self.dropout_rate)
        bags, segments, _ = patterns.shape
        vectors = patterns.flatten(0, 1)  # (B T, D)
        cue_logits = self._logits(cues, self.cue_rows).unflatten(1, (-1, self.outputs))  # (B, U, 1 + C)
        segment_logits = self._logits(vectors, self.segment_rows).view(bags, segments, -1, self.outputs)
        video_of_pairs, by_cue = video_gradient(cue_logits, 1 - labels[:, 0], self.lambda0_of_pairs)
        (segment, classes, sparse), by_segment = segment_gradient(segment_logits, labels, self.weights)
        self._gradients(cues, by_cue.flatten(1), self.cue_rows)
        self._gradients(vectors, by_segment.view(len(vectors), -1), self.segment_rows)
        self._update(self.weight, self.weight_gradient, self.weight_squares, self.rates[:, None])
        self._update(self.bias, self.bias_gradient, self.bias_squares, self.rates)
        video, weights = video_of_pairs[self.pair_of_run], self.weights
        total = self.lambda0 * video + weights.lambda1 * segment + weights.lambda2 * classes + weights.lambda3 * sparse
        return {"total": total, "video": video, "segment": segment, "classes": classes, "sparse": sparse}

    def set_rate(self, share: float) -> None:
        """Set the learning rates of the following steps, as a share of those in the settings."""
        self.rates = self.learning_rates * share

    def _logits(self, inputs: torch.Tensor, rows: slice) -> torch.Tensor:
        """Of inputs (n, D): (n, number of rows)."""
        return torch.addmm(self.bias[rows], inputs, self.weight[rows].T)

    def _gradients(self, inputs: torch.Tensor, by_logits: torch.Tensor, rows: slice) -> None:
        """Set the gradients of some rows from their inputs (n, D) and the gradient by their logits."""
        torch.mm(by_logits.T, inputs, out=self.weight_gradient[rows])
        torch.sum(by_logits, dim=0, out=self.bias_gradient[rows])

    def _update(self, values: torch.Tensor, gradient: torch.Tensor, squares: torch.Tensor, rates: torch.Tensor) -> None:
        """Adagrad (Duchi, Hazan, Singer 2011), as in torch. Overwrites the gradient."""
        if self.decay:
            gradient.add_(values, alpha=self.decay)
        squares.addcmul_(gradient, gradient)
        values.addcdiv_(gradient.mul_(rates), squares.sqrt().add_(EPSILON), value=-1)

    @torch.no_grad()
    def write(self) -> None:
        """Copy the weights into the heads."""
        weights, biases = self.weight.split(self.outputs), self.bias.split(self.outputs)
        first_phi2 = len(weights) - len(self.heads)
        for r, head in enumerate(self.heads):
            for layer, i in ((head.phi1, self.pair_of_run[r]), (head.phi2, first_phi2 + r)):
                layer.weight.copy_(weights[i])
                layer.bias.copy_(biases[i])

    def state_dict(self) -> State:
        """What `load_state_dict` needs to go on."""
        return {"weight": self.weight, "bias": self.bias, "squares": [self.weight_squares, self.bias_squares]}

    @torch.no_grad()
    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        weight_squares, bias_squares = state["squares"]
        self.weight.copy_(state["weight"])
        self.bias.copy_(state["bias"])
        self.weight_squares.copy_(weight_squares)
        self.bias_squares.copy_(bias_squares)
        self.write()


def _gig_settings(run: Run) -> GigHead:
    assert isinstance(run.head, GigHead), "only `gig` heads have a joint_key"
    return run.head


def _gig_head(run: Run, channels: int, classes: int) -> GIGHead:
    head = make_head(run.head, run.training, channels, classes)
    assert isinstance(head, GIGHead), "only `gig` heads have a joint_key"
    return head
