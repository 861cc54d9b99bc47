"""How the twelve anomalies of the generated city look; their normal counterparts are in `distractors`."""

from __future__ import annotations

import numpy as np

from pipeline.data.synthetic import people
from pipeline.data.synthetic.drawing import Colour, stamp
from pipeline.data.synthetic.people import limb, puff, vehicle, walking
from pipeline.data.synthetic.stage import Stage

__all__ = ["DRAW", "FIRE", "brawl", "crate", "pair", "snatch"]

FIRE = np.array((245, 140, 50), dtype=np.float32)
GUN = (24, 24, 28)


def _accident(stage: Stage) -> None:
    """Two vehicles have run into each other: they spin, ever slower, at odd angles; debris flies and smoke rises."""
    lot, settled = stage.lot, 1 - np.exp(-stage.t / 14)
    angle, spin = lot.uniform(-0.5, 0.5), lot.choice((-1, 1)) * lot.uniform(1.5, 3.0)
    for which, sign in enumerate((-1, 1)):
        turn = angle + sign * 0.7 + spin * settled
        x, y = stage.at(sign * (9 + 5 * settled), 8 + sign * 3 * np.sin(turn))
        vehicle(stage.canvas, x, y, 0.85 * stage.size, stage.paint(which), side=sign, angle=float(turn))
    for _ in range(10):
        far, height = float(np.clip(lot.normal(0, 14), -34, 34)), lot.uniform(6, 28)
        x, y = stage.at(far * settled, height - 12 * settled + 4 * np.sin(stage.t / 4))
        stamp(stage.canvas, "box", x, y, 1.6, 1.6, (228, 224, 214), stage.t * 0.5)
    for i in range(3):
        risen = (stage.t + 7 * i) % 20
        x, y = stage.at(2 * i - 2, 14 + risen)
        puff(stage.canvas, x, y, 4 + 0.25 * risen, 0.55 * (1 - risen / 24), 110)


def crate(stage: Stage) -> Colour:
    """The colour of what is carried or pulled."""
    return (150, 108, 62) if stage.seed % 2 else (172, 168, 158)


def _carrying(stage: Stage) -> None:
    """Somebody walks, a crate as wide as two people held overhead with both hands."""
    x, y = stage.at(0, 36 + 0.6 * stage.wave(5.5))
    stage.person(legs=walking(stage.t), arms=(2.7, -2.7), lean=0.05)
    people.cart(stage.canvas, x, y, stage.size, crate(stage), wheels=False)


def _crowd(stage: Stage) -> None:
    """Fourteen people in a knot who jostle; some throw up their arms."""
    lot, jostle = stage.lot, stage.frame_lot
    places = sorted(((lot.normal(0, 17), lot.uniform(0, 18)) for _ in range(14)), key=lambda place: -place[1])
    for which, (before, depth) in enumerate(places):
        dx, up = float(np.clip(jostle.normal(0, 1.2), -2.5, 2.5)), max(0.0, stage.wave(9 + which % 5, which / 5))
        x = float(np.clip(before, -28, 28)) + dx
        stage.person(x, which, away=bool(which % 2), above=float(depth), arms=(0.2 + 2.4 * up, -0.2), lean=0.15 * dx)


def _explosion(stage: Stage) -> None:
    """A bright ball of grainy fire that flares irregularly, black smoke and sparks above it."""
    rng = stage.frame_lot
    radius = stage.size * (15 + 8 * rng.random())
    for _ in range(4):
        x, y = stage.at(rng.normal(0, 5), 38 + rng.uniform(-4, 8))
        puff(stage.canvas, x, y, 11, 0.55, 74)

    def fire(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return FIRE * (0.55 + 0.9 * rng.random(u.shape, dtype=np.float32))[..., None]

    x, y = stage.at(0, 22)
    stamp(stage.canvas, "disc", x, y, radius, radius * rng.uniform(0.8, 1.0), fire)
    for _ in range(6):
        dx, dy = stage.at(rng.uniform(-27, 27), rng.uniform(6, 52))
        stamp(stage.canvas, "disc", dx, dy, 1.4, 1.4, (255, 226, 130))


def pair(stage: Stage, phases: tuple[float, float]) -> None:
    """Draw two people face to face; each phase picks a pose from one cycle of reaches, kicks and sways."""
    for which, (sign, phase) in enumerate(zip((-1, 1), phases, strict=True)):
        swing, sway = np.sin(2 * np.pi * phase), np.cos(2 * np.pi * phase)
        stage.person(
            sign * 10 + 3.5 * sway,
            which,
            away=sign > 0,
            lean=0.35 * swing,
            arms=(1.3 + 1.0 * swing, 1.2 - 0.9 * sway),
            legs=(0.25 + 0.55 * max(0.0, swing), -0.25),
        )


def brawl(rng: np.random.Generator) -> tuple[float, float]:
    """Two random phases."""
    return float(rng.random()), float(rng.random())


def _fighting(stage: Stage) -> None:
    """Two people at close quarters whose poses jump at random from frame to frame."""
    pair(stage, brawl(stage.frame_lot))


def _graffiti(stage: Stage) -> None:
    """Somebody before the wall moves an arm about; a patch of strong colours grows there. Small."""
    lot, done = stage.lot, min(1.0, (stage.t + 4) / (0.8 * stage.length))
    blobs = [(lot.uniform(10, 18), lot.uniform(17, 35), int(lot.integers(3))) for _ in range(16)]
    for before, above, colour in blobs[: int(np.ceil(done * len(blobs)))]:
        x, y = stage.at(before, above)
        stamp(stage.canvas, "disc", x, y, 2.8, 2.4, stage.bright(colour))
    hand = stage.person(arms=(1.75 + 0.55 * stage.wave(6), 0.0)).near_hand
    stamp(stage.canvas, "box", hand[0] + stage.side, hand[1] - 1, 1.4, 2.2, (230, 230, 235))
    puff(stage.canvas, hand[0] + 3 * stage.side, hand[1] - 1.5, 2.2, 0.6, 236)


def _robbery(stage: Stage) -> None:
    """Somebody with a drawn weapon lunges at another, who stands with raised hands and trembles."""
    lunge, tremble = 3.0 * (stage.t % 8 < 3), 1.0 * stage.frame_lot.choice((-1, 1))
    hand = stage.person(-10 + lunge, 0, lean=0.12, arms=(1.5, 0.5), legs=(0.35, -0.35)).near_hand
    limb(stage.canvas, hand, np.pi / 2, 5 * stage.size, 2 * stage.size, GUN, stage.side)
    stage.person(12 + tremble, 1, away=True, lean=-0.12, arms=(2.7, -2.7), legs=(0.2, -0.1))


def _shooting(stage: Stage) -> None:
    """Somebody with an outstretched arm and a pistol that flashes at irregular times and kicks. Small."""
    fires = bool(stage.frame_lot.random() < 0.4)
    hand = stage.person(arms=(1.57 + 0.35 * fires, 1.35), legs=(0.3, -0.3)).near_hand
    muzzle = limb(stage.canvas, hand, np.pi / 2, 4 * stage.size, 2.2 * stage.size, GUN, stage.side)
    if fires:
        x, y = muzzle[0] + stage.side * stage.size, muzzle[1]
        stamp(stage.canvas, "disc", x, y, 5 * stage.size, 4 * stage.size, (255, 240, 150))


def sip(stage: Stage) -> float:
    """The angle of an arm that goes to the mouth and down again, in 24 frames."""
    return 1.45 + 1.0 * stage.wave(24)


def _smoking(stage: Stage) -> None:
    """Somebody stands, a hand going to the mouth now and then; smoke rises from hand and mouth. Small."""
    joints = stage.person(arms=(sip(stage), 0.0))
    hand = joints.near_hand
    limb(stage.canvas, hand, np.pi / 2, 4 * stage.size, 1.6 * stage.size, (246, 246, 240), stage.side)
    stamp(stage.canvas, "disc", hand[0] + 4 * stage.side, hand[1], 1.2, 1.2, (250, 120, 40))
    for i in range(5):
        risen = (stage.t * 0.8 + 3 * i) % 15
        x, y = stage.at(5 + 2.2 * np.sin(risen / 3 + i), 27 + risen)
        puff(stage.canvas, x, y, (1.6 + 0.16 * risen) * stage.size, 0.75 * (1 - risen / 22), 226)


def snatch(stage: Stage, share: float) -> None:
    """Draw two people close together with a bag, which is `share` of the way to the second; both lean to it."""
    before, above = -8 + 16 * share, 15.0
    for which, sign in enumerate((-1, 1)):
        arm = float(np.arctan2(-sign * (before - 6 * sign), 10))
        stage.person(6 * sign, which, away=sign > 0, lean=0.4 * sign * (0.5 - share), arms=(arm, 0.6 * arm))
    people.bag(stage.canvas, *stage.at(before, above), stage.size, stage.bright(1))


def _stealing(stage: Stage) -> None:
    """Two people tear a bag to and fro between them, in jerks. Small."""
    snatch(stage, float(np.random.default_rng([stage.seed, 3, stage.t // 2]).random()))


def broom(stage: Stage, hand: tuple[float, float], angle: float) -> tuple[float, float]:
    """Draw a long stick held in the hand; returns its lower end."""
    limb(stage.canvas, hand, angle + np.pi, 7 * stage.size, 1.8 * stage.size, (196, 158, 96), stage.side)
    return limb(stage.canvas, hand, angle, 15 * stage.size, 1.8 * stage.size, (196, 158, 96), stage.side)


def _sweeping(stage: Stage) -> None:
    """Somebody, bent, swings a broom to and fro; dust rises before it."""
    swing = stage.wave(10)
    hand = stage.person(lean=0.3, arms=(0.75 + 0.25 * swing, 0.6), legs=walking(stage.t, 22)).near_hand
    end = broom(stage, hand, 0.5 + 0.5 * swing)
    stamp(
        stage.canvas, "box", end[0], end[1], 4.5 * stage.size, 2.2 * stage.size, (92, 66, 40), -0.4 * swing * stage.side
    )
    for i in range(2):
        age = (stage.t + 5 * i) % 10
        x, y = stage.at(20 + 0.5 * age, 2 + 0.8 * age)
        puff(stage.canvas, x, y, 2 + 0.3 * age, 0.5 * (1 - age / 11), 200)


def _walking_dog(stage: Stage) -> None:
    """Somebody walks with a dog on a lead before them."""
    hand = stage.person(legs=walking(stage.t), arms=(0.7, 0.6 * stage.wave(11))).near_hand
    colour = ((196, 150, 92), (70, 52, 40), (228, 222, 212))[stage.seed % 3]
    collar = people.dog(stage.canvas, *stage.at(23), stage.size, colour, stage.t, stage.side)
    lead(stage, hand, collar)


def lead(stage: Stage, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a thin line between two points."""
    dx, dy = stage.side * (end[0] - start[0]), end[1] - start[1]
    limb(stage.canvas, start, float(np.arctan2(dx, dy)), float(np.hypot(dx, dy)), 1.0, (40, 36, 34), stage.side)


DRAW = {
    "Accident": _accident,
    "Carrying": _carrying,
    "Crowd": _crowd,
    "Explosion": _explosion,
    "Fighting": _fighting,
    "Graffiti": _graffiti,
    "Robbery": _robbery,
    "Shooting": _shooting,
    "Smoking": _smoking,
    "Stealing": _stealing,
    "Sweeping": _sweeping,
    "WalkingDog": _walking_dog,
}
