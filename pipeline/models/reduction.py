"""Equations 1, 2, 5 and 6: from feature maps to the global pattern cue and the spatial pattern vectors.

Plain pooling is here too, for comparisons.

The enhanced maps X~ = sigmoid(g) * X + X are never made. With a = 1 + sigmoid(g), X~ = a * X, so that

    <g, X~> = X . (g * a),   |X~|^2 = (X * X) . (a * a),

and the mean of chosen X~ is a times the mean of chosen X. Everything is differentiable, but for the choice of
positions, which is a constant as in the literal equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = [
    "BACKGROUND",
    "ChannelMoments",
    "SpatialPatterns",
    "Standardizer",
    "global_pattern_cue",
    "kept_cells",
    "pattern_vectors",
    "relation_map",
    "spatial_patterns",
]

BACKGROUND = ("background", "background_dot")
"""The relations that need the background of the video."""


@dataclass(frozen=True)
class SpatialPatterns:
    """What spatial reasoning keeps of every segment.

    Attributes:
        vectors: (B, T, D), eq. 6.
        positions: (B, T, k) int64, the chosen cells as row x W + column, the most related one first.
        relations: (B, T, H x W), eq. 5 of every cell, by which they were chosen; no cells for pooled maps.
    """

    vectors: torch.Tensor
    positions: torch.Tensor
    relations: torch.Tensor


def global_pattern_cue(maps: torch.Tensor) -> torch.Tensor:
    """Eq. 1: the maximum over time and space. (B, T, H, W, D) -> (B, D)."""
    _check(maps)
    return maps.amax(dim=(1, 2, 3))


def relation_map(
    maps: torch.Tensor,
    cue: torch.Tensor,
    *,
    relation: str = "cosine",
    enhancement: bool = True,
    scale: torch.Tensor | None = None,
    cue_of: str = "video",
    background: torch.Tensor | None = None,
) -> torch.Tensor:
    """Eq. 5: cosine of the cue and every vector of the enhanced maps; 0 for a zero vector.

    Args:
        maps: (B, T, H, W, D).
        cue: (B, D).
        relation: `cosine`; or, not in the paper, `dot` for the product alone, `background` for the length of the
            difference from the background, `background_dot` for the product of the cue and that difference.
        enhancement: apply eq. 2 to the maps first.
        scale: (B, D), positive: computes the relation for scale * maps, of which `cue` is the cue. None for 1.
        cue_of: with `segment` every segment is related to its own cue, whatever `cue` is; not in the paper.
        background: (B, H, W, D), see `pipeline.models.cues`; None where the relation is not to it.

    Returns:
        (B, T, H, W), in [-1, 1] for the cosine.

    Examples:
        The vector that is like the cue has the higher cosine; a zero vector has 0.

        >>> maps = torch.tensor([[3.0, 1.0], [0.0, 4.0], [0.0, 0.0]]).reshape(1, 1, 1, 3, 2)
        >>> cue = global_pattern_cue(maps)
        >>> cue
        tensor([[3., 4.]])
        >>> relation_map(maps, cue, enhancement=False)
        tensor([[[[0.8222, 0.8000, 0.0000]]]])
    """
    _check(maps, cue)
    if cue_of == "segment":
        alone, own, behind = _single_segments(maps, background, scale)
        found = relation_map(alone, own, relation=relation, enhancement=enhancement, background=behind)
        return found.reshape(maps.shape[:-1])
    gain = _gain(cue, enhancement, scale)
    shape = maps.shape[:-1]
    if relation in BACKGROUND:
        maps = maps - _checked_background(maps, background)[:, None]
    flat = maps.flatten(1, 3)  # an exporter takes len(maps) for a constant
    if relation == "background":
        return torch.bmm(flat * flat, (gain * gain)[..., None])[..., 0].sqrt().reshape(shape)
    dots = torch.bmm(flat, (cue * gain)[..., None])[..., 0]
    if relation != "cosine":
        return dots.reshape(shape)
    squares = torch.bmm(flat * flat, (gain * gain)[..., None])[..., 0]
    product = squares * (cue * cue).sum(dim=1, keepdim=True)
    nonzero = product > 0
    safe = torch.where(nonzero, product, torch.ones_like(product))
    cosine = torch.where(nonzero, dots * torch.rsqrt(safe), torch.zeros_like(dots))
    return cosine.clamp(-1, 1).reshape(shape)


def kept_cells(k: float, cells: int) -> int:
    """How many cells of a map `k` means: a whole number is that many, a share below 1 is rounded, to 1 at least.

    Examples:
        >>> kept_cells(8, 49), kept_cells(0.16, 7 * 7), kept_cells(0.16, 7 * 12), kept_cells(0.16, 1)
        (8, 8, 13, 1)
    """
    return k if isinstance(k, int) else max(1, round(k * cells))


def spatial_patterns(
    maps: torch.Tensor,
    cue: torch.Tensor,
    k: float,
    *,
    relation: str = "cosine",
    enhancement: bool = True,
    scale: torch.Tensor | None = None,
    background: torch.Tensor | None = None,
) -> SpatialPatterns:
    """Eqs. 2, 5, 6: the mean of the k enhanced vectors of every segment that are most related to the cue.

    Among equal relations the lower position is kept first.

    Args:
        maps: (B, T, H, W, D).
        cue: (B, D).
        k: number of positions, at most H x W, or their share; see `kept_cells`.
        relation, enhancement, scale, background: see `relation_map`.

    Raises:
        ValueError: k is not within 1 and H x W, or shapes do not fit.
    """
    batch, segments, rows, columns, channels = maps.shape
    kept = kept_cells(k, rows * columns)
    if not 1 <= kept <= rows * columns:
        raise ValueError(f"k: expected 1 to {rows * columns} (positions of a {rows} x {columns} map), got {kept}")
    with torch.no_grad():
        related = relation_map(
            maps, cue, relation=relation, enhancement=enhancement, scale=scale, background=background
        ).reshape(batch, segments, -1)
        positions = torch.sort(related, dim=-1, descending=True, stable=True).indices[..., :kept]
    flat = maps.reshape(batch, segments, rows * columns, channels)
    chosen = torch.gather(flat, 2, positions[..., None].expand(-1, -1, -1, channels))
    return SpatialPatterns(chosen.mean(dim=2) * _gain(cue, enhancement, scale)[:, None], positions, related)


def pattern_vectors(
    maps: torch.Tensor,
    cue: torch.Tensor,
    *,
    reduction: str,
    k: float,
    relation: str = "cosine",
    enhancement: bool = True,
    scale: torch.Tensor | None = None,
    cue_of: str = "video",
    background: torch.Tensor | None = None,
) -> SpatialPatterns:
    """What a head sees of the maps: eq. 6, or the mean or maximum of the (enhanced) maps over all positions.

    Args:
        maps: (B, T, H, W, D).
        cue: (B, D).
        reduction: `spatial`, `mean` or `max`; the last two choose no positions.
        k: see `spatial_patterns`.
        relation, enhancement, scale, cue_of, background: see `relation_map`.
    """
    _check(maps, cue)
    if cue_of == "segment":
        alone, own, behind = _single_segments(maps, background, scale)
        found = pattern_vectors(
            alone, own, reduction=reduction, k=k, relation=relation, enhancement=enhancement, background=behind
        )
        parts = (found.vectors, found.positions, found.relations)
        return SpatialPatterns(*(part.reshape(*maps.shape[:2], part.shape[-1]) for part in parts))
    if reduction == "spatial":
        return spatial_patterns(
            maps, cue, k, relation=relation, enhancement=enhancement, scale=scale, background=background
        )
    pooled = maps.mean(dim=(2, 3)) if reduction == "mean" else maps.amax(dim=(2, 3))
    # The gain is positive, so it can be applied after pooling.
    none = torch.empty(*maps.shape[:2], 0, dtype=torch.int64, device=maps.device)
    return SpatialPatterns(pooled * _gain(cue, enhancement, scale)[:, None], none, pooled[..., :0])


@dataclass(frozen=True)
class Standardizer:
    """The extension `standardize`, which is not in the paper: X -> ReLU((X - mean) / std - offset) in every channel.

    Attributes:
        mean, std: (D,) float32, of the training maps; std is positive.
        offset: b, in units of std.
    """

    mean: torch.Tensor
    std: torch.Tensor
    offset: float

    def maps(self, maps: torch.Tensor) -> torch.Tensor:
        """Standardised maps, (..., D)."""
        return (maps - self.mean).div_(self.std).sub_(self.offset).relu_()

    def cue(self, cue: torch.Tensor) -> torch.Tensor:
        """The cue of standardised maps, from the cue of raw ones.

        They agree because standardising is monotonic in every channel, so it commutes with the maximum.
        """
        return self.maps(cue)


class ChannelMoments:
    """Mean and deviation of every channel over maps that come in pieces; sums in float64."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._squares = torch.zeros((), dtype=torch.float64)

    def update(self, maps: torch.Tensor) -> None:
        """Add maps (..., D)."""
        self.add(self.sums(maps))

    @staticmethod
    def sums(maps: torch.Tensor) -> tuple[int, torch.Tensor, torch.Tensor]:
        """What maps (..., D) add: their number of positions, sums and sums of squares (D,) float64."""
        flat = maps.reshape(-1, maps.shape[-1]).double()
        return len(flat), flat.sum(dim=0), (flat * flat).sum(dim=0)

    def add(self, sums: tuple[int, torch.Tensor, torch.Tensor]) -> None:
        """Add `sums`, which may have been made elsewhere; the last digits depend on the order."""
        count, total, squares = sums
        self._count += count
        self._sum = self._sum + total
        self._squares = self._squares + squares

    def finish(self, offset: float) -> Standardizer:
        """The standardizer of the maps added; a channel that never varies gets std 1.

        Raises:
            ValueError: no maps were added.
        """
        if self._count == 0:
            raise ValueError("no feature maps: channel statistics need at least one")
        mean = self._sum / self._count
        variance = (self._squares / self._count - mean * mean).clamp_min(0)
        varies = variance > 1e-12 * mean.square().clamp_min(1e-12)
        std = torch.where(varies, variance.sqrt(), torch.ones_like(variance))
        return Standardizer(mean.float(), std.float(), offset)


def _gain(cue: torch.Tensor, enhancement: bool, scale: torch.Tensor | None) -> torch.Tensor:
    """The a of eq. 2 times the scale of the maps, (B, D)."""
    gain = 1 + torch.sigmoid(cue) if enhancement else torch.ones_like(cue)
    return gain if scale is None else gain * scale


def _single_segments(
    maps: torch.Tensor, background: torch.Tensor | None, scale: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Maps (B T, 1, H, W, D), cues (B T, D) and backgrounds of bags that are one segment each."""
    if scale is not None:
        raise ValueError("cue_of: segment is not for scaled maps")
    alone = maps.flatten(0, 1)[:, None]
    behind = None if background is None else background[:, None].expand(maps.shape).flatten(0, 1)
    return alone, alone.amax(dim=(1, 2, 3)), behind


def _checked_background(maps: torch.Tensor, background: torch.Tensor | None) -> torch.Tensor:
    if background is None or background.shape != (maps.shape[0], *maps.shape[2:]):
        got = None if background is None else tuple(background.shape)
        raise ValueError(f"expected a background {(maps.shape[0], *maps.shape[2:])}, got {got}")
    return background


def _check(maps: torch.Tensor, cue: torch.Tensor | None = None) -> None:
    if maps.ndim != 5:
        raise ValueError(f"expected maps (B, T, H, W, D), got {tuple(maps.shape)}")
    if cue is not None and cue.shape != (maps.shape[0], maps.shape[-1]):
        raise ValueError(f"expected a cue {(maps.shape[0], maps.shape[-1])}, got {tuple(cue.shape)}")
