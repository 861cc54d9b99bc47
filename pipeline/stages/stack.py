"""Many `gig` heads trained as one tensor program.

Runs that see the same bags in the same order with the same dropout differ only in lambdas, p and learning rate. Their heads are
rows of one matrix, so that a step costs a few large products in place of many small ones. A sum of their losses has the gradients
of each, and the optimiser works element by element: the result is that of training them one by one, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import logsigmoid, softplus

from pipeline.config import Run, digest
from pipeline.models.heads.dropout import dropout
from pipeline.models.heads.gig import GIGHead
from pipeline.stages.recipes import Progress
from pipeline.stages.reduce import Bags
from pipeline.stages.saved_heads import make_head
from pipeline.stages.select import Validation
from pipeline.stages.train import draw_batches

__all__ = ["fit_stack", "stack_key"]

EPSILON = 1e-10  # Adagrad's, as in torch


def stack_key(run: Run) -> str | None:
    """Runs of one key, on one reduction, can be stacked; None for a run that cannot."""
    if run.head.name != "gig" or run.head.channel_attention or run.training.optimizer != "adagrad":
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
) -> list[tuple[GIGHead, list[dict[str, float]]]]:
    """As `pipeline.stages.train.fit`, for R runs of one `stack_key`, without checkpoints and TensorBoard.

    Args:
        bags, labels, classes: as `fit`.
        runs: the settings.
        validations: one a run.
        progress: called once an epoch.

    Returns:
        For every run its head, in evaluation mode, and the mean loss terms of every epoch.
    """
    training, rate = runs[0].training, runs[0].head.dropout
    heads = [make_head(run.head, run.training, bags.cues.shape[-1], classes) for run in runs]
    stack = _Stack(heads, runs)
    videos, views = bags.cues.shape[:2]
    generator = torch.Generator().manual_seed(training.seed)
    histories: list[list[dict[str, float]]] = [[] for _ in runs]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        for epoch in range(1, training.epochs + 1):
            batches = draw_batches(labels, training.batch_bags, False, generator)
            view = torch.randint(views, (videos,), generator=generator)
            sums: dict[str, torch.Tensor] = {}
            for batch in batches:
                cues, patterns = (dropout(seen, rate) if rate else seen for seen in bags.take(batch, view[batch]))
                for name, value in stack.step(cues, patterns, labels[batch]).items():
                    sums[name] = sums.get(name, 0) + value.double() * len(batch)
            stack.write(heads)
            for r, history in enumerate(histories):
                history.append({name: value[r].item() / videos for name, value in sums.items()})
            for head, validation in zip(heads, validations or (), strict=False):
                validation.consider(head)
            if progress:
                progress(epoch, training.epochs, f"training {len(runs)} heads")
    for head, validation in zip(heads, validations or (), strict=False):
        if validation.state:
            head.load_state_dict(validation.state)
    return [(head.eval(), history) for head, history in zip(heads, histories, strict=True)]


class _Stack:
    """Parameters of R heads, their Adagrad, and the VS loss of all.

    phi1 learns from l_g alone: runs of one lambda0 and learning rate have one phi1, which is kept once.
    """

    def __init__(self, heads: Sequence[GIGHead], runs: Sequence[Run]) -> None:
        cues = [(run.head.lambda0, run.training.learning_rate) for run in runs]
        kept = list(dict.fromkeys(cues))
        self.cue_of = [kept.index(pair) for pair in cues]  # (R,) rows of phi1
        firsts = [cues.index(pair) for pair in kept]
        self.outputs = heads[0].phi2.out_features

        def rows(layers: list[torch.nn.Linear]) -> list[torch.Tensor]:
            weight, bias = torch.cat([x.weight.data for x in layers]), torch.cat([x.bias.data for x in layers])
            return [weight.requires_grad_(), bias.requires_grad_()]

        self.phi1, self.phi2 = rows([heads[i].phi1 for i in firsts]), rows([head.phi2 for head in heads])
        self.squares = [torch.zeros_like(value) for value in (*self.phi1, *self.phi2)]
        self.decay = runs[0].training.weight_decay
        speed = torch.tensor([run.training.learning_rate for run in runs])
        self.speeds = [self._spread(speed[firsts]), self._spread(speed)]

        def column(name: str) -> torch.Tensor:
            return torch.tensor([float(getattr(run.head, name)) for run in runs])

        self.p = column("p")
        self.lambdas = {name: column(f"lambda{i}") for i, name in enumerate(("video", "segment", "classes", "sparse"))}
        self.firsts = firsts

    def _spread(self, values: torch.Tensor) -> torch.Tensor:
        """A value a run as a value a row."""
        return values.repeat_interleave(self.outputs)

    def step(self, cues: torch.Tensor, patterns: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """One step of all runs on cues (B, D) and patterns (B, T, D) after dropout; returns the loss terms, each (R,)."""
        video = (cues @ self.phi1[0].T + self.phi1[1]).unflatten(-1, (-1, self.outputs))  # (B, phi1s, 1 + C)
        segments = (patterns @ self.phi2[0].T + self.phi2[1]).unflatten(-1, (-1, self.outputs))  # (B, T, R, 1 + C)
        anomalous = (1 - labels[:, 0])[:, None]
        best = video[..., 1:].amax(dim=-1)
        terms = {"video": (softplus(best) - anomalous * best).mean(dim=0)}  # eq. 4
        positive, negative = self._consensus(segments)  # (B, R, 1 + C)
        top = positive[..., 1:].argmax(dim=-1, keepdim=True)
        log_score, log_rest = (x[..., 1:].gather(-1, top)[..., 0] for x in (positive, negative))
        terms["segment"] = -(anomalous * log_score + (1 - anomalous) * log_rest).mean(dim=0)  # eq. 10
        wanted = labels[:, None]
        terms["classes"] = -(wanted * positive + (1 - wanted) * negative).mean(dim=(0, 2))  # eq. 11
        terms["sparse"] = torch.sigmoid(segments[..., 1:].amax(dim=-1)).sum(dim=1).mean(dim=0)  # eq. 13
        # phi1's gradient counts once for every phi1, however many runs share it.
        loss = (self.lambdas["video"][self.firsts] * terms["video"]).sum()
        loss = loss + sum((self.lambdas[name] * terms[name]).sum() for name in ("segment", "classes", "sparse"))
        parameters = [*self.phi1, *self.phi2]
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            speeds = self.speeds[0][:, None], self.speeds[0], self.speeds[1][:, None], self.speeds[1]
            for value, gradient, squares, speed in zip(parameters, gradients, self.squares, speeds, strict=True):
                if self.decay:
                    gradient = gradient + self.decay * value
                squares.addcmul_(gradient, gradient)
                value.sub_(gradient.mul_(speed).div_(squares.sqrt().add_(EPSILON)))
            terms = {name: value.detach() for name, value in terms.items()}
            terms["video"] = terms["video"][self.cue_of]
            total = sum(self.lambdas[name] * value for name, value in terms.items())
        return {"total": total} | terms

    def _consensus(self, segments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """log S_c and log(1 - S_c) of eq. 8; every run has its own p."""
        most = int(self.p.max())
        top = segments.topk(most, dim=1).values
        unused = torch.arange(most)[:, None] >= self.p[None, :]  # (P, R)
        mask = torch.zeros(most, len(self.p)).masked_fill(unused, -torch.inf)[None, ..., None]
        size = torch.log(self.p)[None, :, None]
        return tuple(torch.logsumexp(logsigmoid(sign * top) + mask, dim=1) - size for sign in (1, -1))

    def write(self, heads: Sequence[GIGHead]) -> None:
        """Copy every run's rows into its head."""
        with torch.no_grad():
            for r, head in enumerate(heads):
                for layer, (weight, bias), i in ((head.phi1, self.phi1, self.cue_of[r]), (head.phi2, self.phi2, r)):
                    rows = slice(i * self.outputs, (i + 1) * self.outputs)
                    layer.weight.copy_(weight[rows])
                    layer.bias.copy_(bias[rows])
