"""MGFN.

Y. Chen et al., "MGFN: Magnitude-Contrastive Glance-and-Focus Network for Weakly-Supervised Video Anomaly Detection",
AAAI 2023 (arXiv 2211.15098). UCF-Crime: AUC 86.98; XD-Violence: AP 80.11.

The form is that of the authors' released code. Vectors x of all segments and their lengths become 64 channels (feature
amplification), C_k a convolution over time of k segments:

    x' = C_3(x) + 0.1 C_3(|x|)

Three glance blocks follow; then, each after a norm and a C_1 to more channels, three focus blocks of 128 and two of
1024 channels. A block is

    x <- x + C_3(x),   x <- x + A(x),   x <- x + C_1(GELU(C_1(norm(x)))),   four times as wide between,

A of a glance block the self-attention of all segments, softmax(q k^T / 8) v with q, k, v and output C_1 of norm(x).
A of a focus block is C_1(W C_1(BatchNorm(x))): W convolves every channel over five segments, with kernel c mod h for
channel c of h = channels / 64 (self-attentional convolution). norm is over channels, (x - mean) / (deviation + 1e-5)
with weights and biases. Features f are a layer norm of the last block, the score s a linear layer of f.

Of every bag the p = 3 segments of greatest |f_t| are chosen, among a random 30 % of its segments (dropout 0.7 of the
magnitudes). m is the vector of the p lengths sum_c |f_t,c| of a bag's chosen segments, in the order of their ranks, S
the mean of their scores. With the i-th normal (n) and the i-th anomalous (a) bag of a batch as a pair,

    l = BCE(S, y) + 0.001 (0.001 between + within_n + within_a) + 8e-4 smooth + 8e-3 sparse
    between = mean_i max(0, 200 - |m_n,i - m_a,i|)^2
    within_n = mean_i |m_n,i+B/2 - m_n,i|^2 of the B normal bags, first half against second; within_a likewise
    smooth = sum over all bags of (s_t - s_t+1)^2
    sparse = sqrt(sum of s_t^2 over all normal bags).

f is a layer norm, so that in a fresh network all |f_t| are equal and the first choices are as good as random.

In the released code: Adam, learning rate 1e-3, weight decay 5e-4, 16 bags of each kind a batch, 1,000 epochs.

Compared with the released models/mgfn.py, utils/utils.py and train.py, retyped for one crop a bag on a CPU, on the
same tensors (D = 256, T = 32, 4 + 4 bags, the same weights and dropped magnitudes, float64): scores within 3e-15, total
and every term of the loss within 3e-13 of their size, gradients of five layers within 2e-13; the loss stays within
4e-12 over five steps of Adam (D = 64, 8 + 8 bags). In float32 (D = 2048) scores, BCE, smooth and sparse agree within
4e-7, the total within 2e-5, and `within`, differences of sums of about 800, within 1.1e-4. Of the paper only excerpts
were at hand: what its equations say beyond the released code could not be checked.

Departures: views take the place of ten crops, one per epoch, so nothing is averaged over crops; in the release `within`
compares crops 1 to 5 of a video with crops 6 to 10 of the same, since crops stand before bags there, and with a single
crop, as for XD-Violence, it compares bags, as here. With an odd number of bags of a kind the last one has no partner,
and with one bag `within` is 0. p is an option, since bags here have any T. A video is scored in parts of at most about
512 windows, so that memory is bounded.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, conv1d, pairwise_distance

from pipeline.models.heads.base import WINDOWS_IN_CONTEXT, BinaryHead, normal_bags, register
from pipeline.models.heads.dropout import Dropout

__all__ = ["Focus", "Glance", "Mgfn"]

FIRST_STAGES = ((64, 3, "glance"), (128, 3, "focus"))  # channels, blocks, kind
LAST_BLOCKS = 2
HEAD_WIDTH = 64


class _ChannelNorm(nn.Module):
    """Norm over the channels of (B, C, T), by the standard deviation plus a small number."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels, 1)), nn.Parameter(torch.zeros(channels, 1))

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        centred = signal - signal.mean(dim=1, keepdim=True)
        # The least variance keeps gradients finite where all channels are equal.
        deviation = centred.square().mean(dim=1, keepdim=True).clamp_min(1e-12).sqrt()
        return centred / (deviation + 1e-5) * self.weight + self.bias


class Glance(nn.Module):
    """Self-attention of all segments: (B, C, T) -> (B, C, T) for any T; C is a multiple of 64."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_WIDTH
        self.norm = _ChannelNorm(channels)
        self.project, self.out = nn.Conv1d(channels, 3 * channels, 1, bias=False), nn.Conv1d(channels, channels, 1)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """The attention's output, without the signal."""
        batch, channels, segments = signal.shape
        parts = self.project(self.norm(signal)).reshape(batch, 3, self.heads, HEAD_WIDTH, segments)
        query, key, value = parts.unbind(dim=1)  # (B, heads, 64, T)
        weights = (query.transpose(-1, -2) @ key / HEAD_WIDTH**0.5).softmax(dim=-1)
        return self.out((value @ weights.transpose(-1, -2)).reshape(batch, channels, segments))


class Focus(nn.Module):
    """Self-attentional convolution: (B, C, T) -> (B, C, T) for any T; C is a multiple of 64."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        heads = channels // HEAD_WIDTH
        self.norm = nn.BatchNorm1d(channels)
        self.value, self.out = nn.Conv1d(channels, channels, 1, bias=False), nn.Conv1d(channels, channels, 1)
        self.near = nn.Conv1d(heads, heads, 5, groups=heads)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """The convolution's output, without the signal."""
        bias, value = self.near.bias, self.value(self.norm(signal))
        assert bias is not None, "the convolution is made with one"
        kernels = self.near.weight.repeat(HEAD_WIDTH, 1, 1)
        return self.out(conv1d(value, kernels, bias.repeat(HEAD_WIDTH), padding=2, groups=len(kernels)))


class _Block(nn.Module):
    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.near = nn.Conv1d(channels, channels, 3, padding=1)
        self.relate = Glance(channels) if kind == "glance" else Focus(channels)
        wide = 4 * channels
        self.feed = nn.Sequential(
            _ChannelNorm(channels), nn.Conv1d(channels, wide, 1), nn.GELU(), nn.Conv1d(wide, channels, 1)
        )

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        for part in (self.near, self.relate, self.feed):
            signal = signal + part(signal)
        return signal


@register("mgfn")
class Mgfn(BinaryHead):
    """The head of Y. Chen et al.

    Args:
        channels: D.
        classes: C.
        width: channels of the last two focus blocks and of f, a multiple of 64.
        p: segments of greatest magnitude that are chosen of a bag.
        dropout: of the magnitudes that segments are chosen by.
        amplification: weight of the lengths beside the vectors.
        margin: of the distance between normal and anomalous bags.
        contrast: weight of the magnitude contrastive loss.
        between: weight of the pairs of a normal and an anomalous bag in that loss.
        smoothness: weight of the squared differences of neighbouring scores.
        sparsity: weight of the length of all scores of normal bags.

    Raises:
        ValueError: the width is not a multiple of 64.
    """

    context = WINDOWS_IN_CONTEXT

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        width: int = 1024,
        p: int = 3,
        dropout: float = 0.7,
        amplification: float = 0.1,
        margin: float = 200.0,
        contrast: float = 1e-3,
        between: float = 1e-3,
        smoothness: float = 8e-4,
        sparsity: float = 8e-3,
    ) -> None:
        super().__init__(channels, classes)
        if width % HEAD_WIDTH:
            raise ValueError(f"mgfn: expected a width that is a multiple of {HEAD_WIDTH}, got {width}")
        self.p, self.amplification, self.margin = p, amplification, margin
        self.contrast, self.between, self.smoothness, self.sparsity = contrast, between, smoothness, sparsity
        first = FIRST_STAGES[0][0]
        self.vectors, self.lengths = nn.Conv1d(channels, first, 3, padding=1), nn.Conv1d(1, first, 3, padding=1)
        layers: list[nn.Module] = []
        before = first
        for after, blocks, kind in (*FIRST_STAGES, (width, LAST_BLOCKS, "focus")):
            if layers:
                layers += [_ChannelNorm(before), nn.Conv1d(before, after, 1)]
            layers += [_Block(after, kind) for _ in range(blocks)]
            before = after
        self.blocks, self.norm, self.score = nn.Sequential(*layers), nn.LayerNorm(width), nn.Linear(width, 1)
        self.drop = Dropout(dropout)

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """logits (B, T); in training also magnitudes (B, T) and the ranks (B, T) that segments are chosen by."""
        lengths = vectors.norm(dim=-1, keepdim=True)
        amplified = self.vectors(vectors.transpose(1, 2)) + self.amplification * self.lengths(lengths.transpose(1, 2))
        features = self.norm(self.blocks(amplified).transpose(1, 2))
        parts = {"logits": self.score(features)[..., 0]}
        if self.training:
            ranks = features.detach().norm(dim=-1)
            parts |= {"magnitudes": features.abs().sum(dim=-1), "ranks": ranks * self.drop(torch.ones_like(ranks))}
        return parts

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's equation. Raises ValueError when the first half of the bags is not the normal ones."""
        half = normal_bags("mgfn", anomalous)
        scores = torch.sigmoid(parts["logits"])
        chosen = parts["ranks"].topk(self.p, dim=1).indices
        video = binary_cross_entropy(scores.gather(1, chosen).mean(dim=1), anomalous.to(scores.dtype))
        magnitudes = parts["magnitudes"].gather(1, chosen)
        normal, strange = magnitudes[:half], magnitudes[half:]
        terms = {
            "between": torch.relu(self.margin - pairwise_distance(strange, normal)).square().mean(),
            "within_normal": _spread(normal),
            "within_anomalous": _spread(strange),
            "smooth": (scores[:, 1:] - scores[:, :-1]).square().sum(),
            "sparse": scores[:half].norm(),
        }
        contrast = self.between * terms["between"] + terms["within_normal"] + terms["within_anomalous"]
        total = video + self.contrast * contrast + self.smoothness * terms["smooth"] + self.sparsity * terms["sparse"]
        return {"total": total, "video": video} | terms


def _spread(magnitudes: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of the second half of the bags to the first, (B, p) -> scalar; 0 for a single bag."""
    pairs = len(magnitudes) // 2
    if not pairs:
        return magnitudes.new_zeros(())
    return pairwise_distance(magnitudes[pairs : 2 * pairs], magnitudes[:pairs]).square().mean()
