"""How a thing moves as a whole: its place, angle, size, brightness and opacity at every moment of a clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["MOTIONS", "STYLES", "Pose", "pose", "swing"]

MOTIONS = (
    "still",
    "drift",
    "accelerate",
    "circle",
    "sway",
    "turn",
    "grow",
    "shrink",
    "tremble",
    "jump",
    "flicker",
    "pulse",
    "appear",
    "vanish",
)
STYLES = ("held", "swing", "random", "sudden", "sweep")
"""How a limb moves: not at all, to and fro smoothly, to a new angle in every frame, to a new angle now and then, or
steadily one way."""


@dataclass(frozen=True)
class Pose:
    """A thing over the moments of a clip, (L + 2,) each: offset in pixels, radians, and factors."""

    dx: np.ndarray
    dy: np.ndarray
    angle: np.ndarray
    scale: np.ndarray
    gain: np.ndarray
    opacity: np.ndarray


def pose(rng: np.random.Generator, motions: tuple[str, ...], times: np.ndarray) -> Pose:
    """Draw the parameters of some motions and follow them.

    Args:
        rng: source of everything random.
        motions: of MOTIONS; their effects add.
        times: (L + 2,) moments, in frames of a video; a clip's frames can be several apart.

    Returns:
        The pose at each moment. Speeds are such that things move by 0.2 to 3 pixels a frame of the video.
    """
    count = len(times)
    dx, dy, angle = np.zeros(count), np.zeros(count), np.zeros(count)
    scale, gain, opacity = np.ones(count), np.ones(count), np.ones(count)
    for motion in motions:
        if motion not in MOTIONS:
            raise ValueError(f"motion: expected one of {', '.join(MOTIONS)}, got {motion!r}")
        direction, speed = rng.uniform(0, 2 * np.pi), float(np.exp(rng.uniform(np.log(0.2), np.log(3.0))))
        period, phase = float(np.exp(rng.uniform(np.log(6), np.log(30)))), rng.uniform(0, 2 * np.pi)
        turn = 2 * np.pi * times / period + phase
        along = _along(rng, motion, times, speed, np.sin(turn))
        dx, dy = dx + np.cos(direction) * along, dy + 0.6 * np.sin(direction) * along
        if motion == "circle":
            radius = rng.uniform(2, 9)
            dx, dy = dx + radius * np.sin(turn), dy + radius * np.cos(turn)
        elif motion == "tremble":
            dx, dy = dx + rng.normal(0, rng.uniform(0.6, 3.0), count), dy + rng.normal(0, rng.uniform(0.3, 2.0), count)
        elif motion == "turn":
            angle = angle + rng.choice([-1, 1]) * rng.uniform(0.03, 0.3) * times
        elif motion in ("grow", "shrink"):
            rate = rng.uniform(0.012, 0.06) * (1 if motion == "grow" else -1)
            scale = scale * np.clip(np.exp(rate * times), 0.35, 2.2)
        elif motion in ("flicker", "pulse"):
            gain = gain * _gain(rng, motion, np.sin(turn))
        elif motion in ("appear", "vanish"):
            moment, length = rng.uniform(times[1], times[-2]), rng.choice([0.5, 6.0])
            risen = np.clip((times - moment) / length + 0.5, 0, 1)
            opacity = opacity * (risen if motion == "appear" else 1 - risen)
    return Pose(dx, dy, angle, scale, gain, opacity)


def _along(rng: np.random.Generator, motion: str, times: np.ndarray, speed: float, wave: np.ndarray) -> np.ndarray:
    """How far a motion has led along a line at each moment, pixels; 0 for one that does not."""
    far = np.zeros(len(times))
    if motion == "drift":
        far = speed * times
    elif motion == "accelerate":
        far = speed * times * np.abs(times) / np.abs(times).max()
    elif motion == "sway":
        far = rng.uniform(2, 9) * wave
    elif motion == "jump":
        far = rng.uniform(3, 10) * _sudden(rng, len(times))
    return far


def _gain(rng: np.random.Generator, motion: str, wave: np.ndarray) -> np.ndarray:
    """The factor of the brightness at each moment."""
    gain: np.ndarray = (
        rng.uniform(0.55, 1.45, size=len(wave)) if motion == "flicker" else 1 + rng.uniform(0.25, 0.45) * wave
    )
    return gain


def swing(rng: np.random.Generator, style: str, times: np.ndarray) -> np.ndarray:
    """The deviation of a limb from its middle angle at each moment: (L + 2,) radians."""
    if style == "held":
        return np.zeros(len(times))
    reach = rng.uniform(0.3, 1.1)
    deviation: np.ndarray
    if style == "swing":
        period, phase = float(np.exp(rng.uniform(np.log(6), np.log(30)))), rng.uniform(0, 2 * np.pi)
        deviation = reach * np.sin(2 * np.pi * times / period + phase)
    elif style == "random":
        deviation = reach * rng.uniform(-1, 1, size=len(times))
    elif style == "sudden":
        deviation = reach * _sudden(rng, len(times))
    elif style == "sweep":
        deviation = rng.choice([-1, 1]) * rng.uniform(0.01, 0.06) * times
    else:
        raise ValueError(f"style: expected one of {', '.join(STYLES)}, got {style!r}")
    return deviation


def _sudden(rng: np.random.Generator, count: int) -> np.ndarray:
    """A random value between -1 and 1 that changes with a probability of 0.4 from one moment to the next."""
    values = rng.uniform(-1, 1, size=count)
    last = np.maximum.accumulate(np.where(rng.random(count) < 0.4, np.arange(count), 0))
    held: np.ndarray = values[last]
    return held
