"""How the normal counterparts of the twelve anomalies look.

Each has the place, size, colours and duration of its anomaly, but is harmless.
"""

from __future__ import annotations

import numpy as np

from pipeline.data.synthetic import people
from pipeline.data.synthetic.city.anomalies import FIRE, broom, crate, lead, pair, sip, snatch
from pipeline.data.synthetic.drawing import stamp
from pipeline.data.synthetic.people import limb, vehicle, walking
from pipeline.data.synthetic.stage import Stage

__all__ = ["DRAW"]


def _parking(stage: Stage) -> None:
    """Against Accident: one vehicle manoeuvres past another, both upright; exhaust rises."""
    for which, sign in enumerate((-1, 1)):
        shift = 13 * stage.wave(30) if which else 0.0
        x, y = stage.at(shift, 12 - 8 * which)
        vehicle(stage.canvas, x, y, 0.85 * stage.size, stage.paint(which), side=sign)
    for i in range(3):
        risen = (stage.t + 7 * i) % 20
        x, y = stage.at(-22 + 2 * i, 6 + risen)
        people.puff(stage.canvas, x, y, 4 + 0.25 * risen, 0.55 * (1 - risen / 24), 110)


def _trolley(stage: Stage) -> None:
    """Against Carrying: the crate is pulled on wheels."""
    hand = stage.person(10, legs=walking(stage.t), arms=(-0.5, 0.5 * stage.wave(11)), lean=0.1).near_hand
    x, y = stage.at(-14, 2)
    people.cart(stage.canvas, x, y, stage.size, crate(stage), wheels=True)
    lead(stage, hand, stage.at(-4, 10))


def _queue(stage: Stage) -> None:
    """Against Crowd: fourteen people, one behind another in two rows, who shuffle forward."""
    for row in range(2):
        for place in range(7):
            which = 7 * row + place
            shuffle = 3 * stage.wave(24, 0.1 * place)
            stage.person(-42 + 14 * place + shuffle, which, above=12 - 12 * row, legs=(0.12 + 0.03 * shuffle, -0.12))


def _carousel(stage: Stage) -> None:
    """Against Explosion: a striped wheel of the same colours that turns and swells smoothly, dark cloths above it."""
    for i in range(4):
        x, y = stage.at(10 * np.sin(i + stage.t / 10), 40 + 3 * np.cos(i))
        people.puff(stage.canvas, x, y, 11, 0.55, 74)

    def stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return FIRE * np.where(np.sin(u * (2 * np.pi / 9)) < 0, np.float32(0.55), np.float32(1.4))[..., None]

    radius = stage.size * (19 + 3 * stage.wave(20))
    stamp(stage.canvas, "disc", *stage.at(0, 22), radius, radius, stripes, 0.3 * stage.t)


def _dancing(stage: Stage) -> None:
    """Against Fighting: the same poses, which follow one another smoothly."""
    first, second = stage.lot.random(2)
    pair(stage, (float(first) + stage.t / 12, float(second) + stage.t / 17))


def _notice_board(stage: Stage) -> None:
    """Against Graffiti: somebody points at a notice board of the same colours, on which nothing changes."""
    lot = stage.lot
    stamp(stage.canvas, "box", *stage.at(14, 26), 6.5 * stage.size, 10.5 * stage.size, (235, 232, 222))
    for _ in range(16):
        before, above, colour = lot.uniform(10, 18), lot.uniform(17, 35), int(lot.integers(3))
        stamp(stage.canvas, "disc", *stage.at(before, above), 2.8, 2.4, stage.bright(colour))
    stage.person(arms=(1.75 + 0.15 * stage.wave(30), 0.0))


def _greeting(stage: Stage) -> None:
    """Against Robbery: one holds out an open hand, the other waves with one arm."""
    stage.person(-10 + 1.5 * stage.wave(16), 0, lean=0.08, arms=(1.4, 0.2))
    stage.person(12, 1, away=True, arms=(2.6 + 0.35 * stage.wave(12), -0.1))


def _torch(stage: Stage) -> None:
    """Against Shooting: somebody holds out a lamp whose light swells and fades smoothly."""
    hand = stage.person(arms=(1.57, 0.0), legs=(0.3, -0.3)).near_hand
    end = limb(stage.canvas, hand, np.pi / 2, 4 * stage.size, 2.2 * stage.size, (24, 24, 28), stage.side)
    glow = 0.5 + 0.5 * stage.wave(30)
    x = end[0] + stage.side * stage.size
    stamp(stage.canvas, "disc", x, end[1], 5 * stage.size, 4 * stage.size, (255, 240, 150), opacity=glow)


def _drinking(stage: Stage) -> None:
    """Against Smoking: the same hand to the mouth, a cup in it, and no smoke."""
    hand = stage.person(arms=(sip(stage), 0.0)).near_hand
    stamp(stage.canvas, "box", hand[0] + 1.5 * stage.side, hand[1], 2 * stage.size, 2.6 * stage.size, (246, 246, 240))


def _handing(stage: Stage) -> None:
    """Against Stealing: the same poses; the bag goes over and back at an even, slow pace."""
    way = (stage.t / 20 + float(stage.lot.random())) % 2
    snatch(stage, 1 - abs(1 - way))


def _umbrella(stage: Stage) -> None:
    """Against Sweeping: a stick as long, a closed umbrella, on which somebody leans in walking."""
    hand = stage.person(arms=(0.75, 0.5 * stage.wave(22)), legs=walking(stage.t, 22), lean=0.1).near_hand
    end = broom(stage, hand, 0.25)
    stamp(stage.canvas, "box", end[0], end[1] - 5 * stage.size, 2.2 * stage.size, 4.5 * stage.size, (92, 66, 40))


def _suitcase(stage: Stage) -> None:
    """Against WalkingDog: a suitcase of the dog's size and colours is pushed along on a handle."""
    hand = stage.person(legs=walking(stage.t), arms=(0.7, 0.6 * stage.wave(11))).near_hand
    colour = ((196, 150, 92), (70, 52, 40), (228, 222, 212))[stage.seed % 3]
    x, y = stage.at(23, 8)
    stamp(stage.canvas, "box", x, y, 9 * stage.size, 6 * stage.size, colour)
    for dx in (-6, 6):
        stamp(stage.canvas, "disc", x + dx * stage.size, y + 6.5 * stage.size, 1.6, 1.6, (30, 30, 32))
    lead(stage, hand, stage.at(15, 13))


DRAW = {
    "Parking": _parking,
    "Trolley": _trolley,
    "Queue": _queue,
    "Carousel": _carousel,
    "Dancing": _dancing,
    "NoticeBoard": _notice_board,
    "Greeting": _greeting,
    "Torch": _torch,
    "Drinking": _drinking,
    "Handing": _handing,
    "Umbrella": _umbrella,
    "Suitcase": _suitcase,
}
