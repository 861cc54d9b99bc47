"""PEL4VAD without text: its temporal context aggregation and causal classifier.

Pu, Wu, Yang, Wang, "Learning Prompt-Enhanced Context Features for Weakly-Supervised Video Anomaly Detection", IEEE TIP
2024 (arXiv 2306.14451). With its prompts and smoothed scores: UCF-Crime: AUC 86.76; XD-Violence: AP 85.59;
ShanghaiTech: AUC 98.14.

The form is that of the authors' released code. With q, k, v linear layers of vectors x, D - 128, one matrix of
similarity serves two attentions, over all segments (g) and over the nine around each (l):

    M_ij = q_i k_j / sqrt(128) + exp(-|gamma (i - j)^2 - beta|)      gamma and beta are trained, from 0.6 and 0.2
    g = softmax_j(M) v,   l = softmax_j(M where |i - j| <= 4, else -1e9) v
    c = a g + (1 - a) l,   a the sigmoid of a trained number, from 0
    c' = sign(c) sqrt(|c|), every channel divided by its length over time      (if `power_norm`)
    e = LayerNorm(x + W c'),   e <- GELU(e) of layers D - D/2 - 300, dropout 0.1 after each

The score s of a segment is a convolution of e at it and the eight segments before it, zeros before the first. With k
the T // 16 + 1 segments of highest score of an anomalous bag and the one of a normal bag,

    l = BCE(mean of s over k, y) .

In the released code: Adam, learning rate 5e-4, 128 bags a batch, of both kinds as they come, T = 200, 50 epochs. The
rate falls along a cosine that would reach zero at epoch 60, set once per epoch. What differs between data sets (window,
gamma, beta, norm, the convolution's length) is here as for UCF-Crime; for XD-Violence it is 9, 0.06, 0.02, no norm and
3, for ShanghaiTech 5, 0.08, 0.1, with norm and 3.

Compared with the released model.py, modules.py, layers.py and loss.py, retyped for a CPU, on the same tensors (D =
1024, T = 40, 6 bags, the same weights, no dropout, the settings of all three data sets): in float32 the loss within
2e-7 of its size and scores within 3e-7, in float64 both within 2e-15, and gradients of five parameters within 2e-14.
Over steps of Adam (float64, D = 64, 16 bags) the loss stays within 3e-12 for 12 steps; then rounding grows, since the
gradient of the root is without bound near zero, and after 40 steps it differs by 1 %. Of the paper only the abstract
was at hand: what its equations say beyond the released code could not be checked.

Departures: the prompt-enhanced learning is left out, which contrasts features of a video, D/2 wide, with CLIP's
features of words for its class (weight 1), since it needs a text for every class. Scores are not smoothed here by means
over 7 segments; `scoring` smooths them. Views take the place of crops. A video is scored in parts of at most about 512
windows, so that memory is bounded; with `power_norm` the lengths are those within a part. A bag is never padded.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, gelu, normalize, pad

from pipeline.models.heads.base import WINDOWS_IN_CONTEXT, BinaryHead, register, top_mean
from pipeline.models.heads.dropout import Dropout

__all__ = ["ContextAggregation", "Pel4Vad"]

KEY_WIDTH, FEATURES = 128, 300


class ContextAggregation(nn.Module):
    """Global and local attention by one matrix of similarity: (B, T, D) -> (B, T, D) for any T.

    Args:
        channels: D.
        window: segments of the local attention.
        gamma: first value of the decay by squared distance.
        beta: first value of what is taken from it.
        power_norm: take the signed root, and divide every channel by its length over time.
    """

    def __init__(self, channels: int, window: int, gamma: float, beta: float, power_norm: bool) -> None:
        super().__init__()
        self.window, self.power_norm = window, power_norm
        self.query, self.key, self.value = (nn.Linear(channels, KEY_WIDTH) for _ in range(3))
        self.out = nn.Linear(KEY_WIDTH, channels)
        self.gamma, self.beta = nn.Parameter(torch.tensor(gamma)), nn.Parameter(torch.tensor(beta))
        self.balance = nn.Parameter(torch.tensor(0.0))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """The aggregated context, without the vectors."""
        place = torch.arange(vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
        offset = place[None, :] - place[:, None]  # j - i
        near = torch.exp(-(self.gamma * offset.square() - self.beta).abs())
        alike = self.query(vectors) @ self.key(vectors).transpose(1, 2) / KEY_WIDTH**0.5 + near
        first = -(self.window // 2)
        outside = (offset < first) | (offset >= first + self.window)
        value, share = self.value(vectors), torch.sigmoid(self.balance)
        everywhere = alike.softmax(dim=-1) @ value
        around = alike.masked_fill(outside, -1e9).softmax(dim=-1) @ value
        context = share * everywhere + (1 - share) * around
        if self.power_norm:
            # Two roots, since the gradient of one of the magnitude would be nan at zero.
            context = torch.relu(context).sqrt() - torch.relu(-context).sqrt()
            context = normalize(context, dim=1)
        return self.out(context)


@register("pel4vad")
class Pel4Vad(BinaryHead):
    """The head of Pu et al.

    Args:
        channels: D.
        classes: C.
        window: segments of the local attention.
        gamma: first value of the decay of similarity by squared distance.
        beta: first value of what is taken from it.
        power_norm: whether the context is normalised.
        causal_segments: segments of the last convolution.
        dropout: after each of the two layers.
    """

    pairs = False
    context = WINDOWS_IN_CONTEXT

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        window: int = 9,
        gamma: float = 0.6,
        beta: float = 0.2,
        power_norm: bool = True,
        causal_segments: int = 9,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(channels, classes)
        self.before = causal_segments - 1
        self.aggregation = ContextAggregation(channels, window, gamma, beta, power_norm)
        self.norm = nn.LayerNorm(channels)
        half = max(1, channels // 2)
        self.wide, self.narrow = nn.Linear(channels, half), nn.Linear(half, FEATURES)
        self.drop = Dropout(dropout)
        self.score = nn.Conv1d(FEATURES, 1, causal_segments)
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)) and module is not self.readout:
                nn.init.xavier_uniform_(module.weight)

    def method(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """logits (B, T)."""
        features = self.norm(vectors + self.aggregation(vectors))
        for layer in (self.wide, self.narrow):
            features = self.drop(gelu(layer(features)))
        return {"logits": self.score(pad(features.transpose(1, 2), (self.before, 0)))[:, 0]}

    def method_loss(self, parts: dict[str, torch.Tensor], anomalous: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's equation."""
        scores = torch.sigmoid(parts["logits"])
        bags = torch.where(anomalous, top_mean(scores, scores.shape[1] // 16 + 1), scores.amax(dim=1))
        return {"total": binary_cross_entropy(bags, anomalous.to(scores.dtype))}
