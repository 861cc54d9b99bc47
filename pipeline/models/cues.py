"""What the segments of a video are related to: its cue (eq. 1) and, not in the paper, other cues and its background.

`head.cue_of` says of what the cue is the maximum: of the `video`, of every `segment` by itself, or of the
`top_segments`, the m segments whose own maxima g_t are the longest vectors. The background is the counterpart of eq. 1,

    b_{h,w} = min over t of X_{t,h,w},

what a still camera sees at a cell all the time. Both need no labels. Like the cue it is an extreme, so it is found in
pieces, and that of standardised maps is the standardised one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.models.reduction import BACKGROUND, global_pattern_cue

__all__ = ["Overview", "OverviewSoFar", "overview", "running_cues"]


@dataclass(frozen=True)
class Overview:
    """What reduces the segments of B videos needs to know of the videos.

    Attributes:
        cue: (B, D).
        background: (B, H, W, D), the minimum over the segments; None where no relation is to it.
    """

    cue: torch.Tensor
    background: torch.Tensor | None = None

    def of(self, chosen: slice) -> Overview:
        """That of some of the videos."""
        return Overview(self.cue[chosen], None if self.background is None else self.background[chosen])


def overview(maps: torch.Tensor, *, cue_of: str = "video", cue_segments: int = 2, relation: str = "cosine") -> Overview:
    """The overview of whole videos that are at hand.

    Args:
        maps: (B, T, H, W, D), as the head sees them.
        cue_of: `video`, `segment` (then the cue is that of the video, and the reduction finds the others) or
            `top_segments`.
        cue_segments: m of `top_segments`; all segments if there are fewer.
        relation: one of `BACKGROUND` needs a background.
    """
    cue = global_pattern_cue(maps)
    if cue_of == "top_segments":
        peaks = maps.amax(dim=(2, 3))
        lengths = torch.linalg.vector_norm(peaks.detach(), dim=-1)
        best = torch.sort(lengths, dim=1, descending=True, stable=True).indices[:, :cue_segments, None]
        cue = torch.gather(peaks, 1, best.expand(-1, -1, peaks.shape[-1])).amax(dim=1)
    return Overview(cue, maps.detach().amin(dim=1) if relation in BACKGROUND else None)


def running_cues(maps: torch.Tensor, before: torch.Tensor | None = None) -> torch.Tensor:
    """Eq. 1 of a video so far: at every segment the maximum over space, this segment and the ones before it.

    Args:
        maps: (B, T, H, W, D), segments in order.
        before: (B, D), the cue of the segments before these; None if these are the first.

    Returns:
        (B, T, D).
    """
    peaks = maps.amax(dim=(2, 3))
    if before is not None:
        peaks[:, 0] = torch.maximum(peaks[:, 0], before)
    return peaks.cummax(dim=1).values


class OverviewSoFar:
    """The overview of a video whose windows come in pieces, in bounded memory.

    Args:
        cue_of, cue_segments, relation: see `overview`.
    """

    def __init__(self, *, cue_of: str = "video", cue_segments: int = 2, relation: str = "cosine") -> None:
        self._top = cue_segments if cue_of == "top_segments" else None
        self._with_background = relation in BACKGROUND
        self._peaks: torch.Tensor | None = None  # (m, D) of the top segments, the earlier first; else (1, D)
        self._background: torch.Tensor | None = None  # (H, W, D)

    def add(self, maps: torch.Tensor) -> Overview:
        """Add the next n windows.

        Args:
            maps: (1, n, H, W, D), as the head sees them.

        Returns:
            For every window as a bag of its own what is known after it: cue (n, D) and background (n, H, W, D).
        """
        return Overview(self._add_peaks(maps), self._add_background(maps[0]) if self._with_background else None)

    def _add_peaks(self, maps: torch.Tensor) -> torch.Tensor:
        if self._top is None:
            cues = running_cues(maps, self._peaks)[0]
            self._peaks = cues[-1:]
            return cues
        peaks, found = maps[0].amax(dim=(1, 2)), []
        held = peaks[:0] if self._peaks is None else self._peaks
        for peak in peaks:
            held = torch.cat([held, peak[None]])
            if len(held) > self._top:
                lengths = torch.linalg.vector_norm(held, dim=-1).tolist()
                shortest = min(range(len(held)), key=lambda i: (lengths[i], -i))  # of equal ones the latest goes
                held = torch.cat([held[:shortest], held[shortest + 1 :]])
            found.append(held.amax(dim=0))
        self._peaks = held
        return torch.stack(found)

    def _add_background(self, maps: torch.Tensor) -> torch.Tensor:
        lowest = maps.cummin(dim=0).values
        if self._background is not None:
            lowest = torch.minimum(lowest, self._background)
        self._background = lowest[-1]
        return lowest
