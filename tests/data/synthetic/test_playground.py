"""The lessons of the small backbone: what is said of a cell is what the pictures show there."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.synthetic.playground.camera import Camera
from pipeline.data.synthetic.playground.layers import FACTS, Canvas, Part, draw_part, squash
from pipeline.data.synthetic.playground.lesson import (
    ATTRIBUTES,
    VALUES,
    Lesson,
    draw_lesson,
    draw_values,
    presence,
)
from pipeline.data.synthetic.playground.motions import MOTIONS, STYLES, pose, swing
from pipeline.data.synthetic.playground.things import make_thing

SIZE, FRAMES = 64, 6
MOMENTS = np.arange(-1.0, FRAMES + 1)
STILL = np.zeros(FRAMES + 2)


def disc(**changed) -> Part:
    """A red disc of radius 6 in the middle of cell (0, 0), with changes."""
    settings = {
        "kind": "disc",
        "x": STILL + 16,
        "y": STILL + 16,
        "a": STILL + 6,
        "b": STILL + 6,
        "angle": STILL,
        "colour": np.array([240.0, 20, 20]),
        "gain": STILL + 1,
        "opacity": STILL + 1,
    }
    return Part(**(settings | changed))


def drawn(*parts: Part) -> tuple[Canvas, np.ndarray]:
    canvas = Canvas.on(np.full((FRAMES, 3, SIZE, SIZE), 100, dtype=np.float32))
    shown = sum(draw_part(canvas, part, np.random.default_rng(0)) for part in parts)
    return canvas, np.asarray(shown)


def value(canvas: Canvas, name: str) -> float:
    """Of cell (0, 0)."""
    return float(draw_values(canvas, np.zeros((SIZE // 32, SIZE // 32)))[0, 0, VALUES.index(name)])


def centres(images: np.ndarray) -> np.ndarray:
    """The centre of what is red in each picture: (L, 2), x and y."""
    weight = images[:, 0] - 100
    where = np.arange(SIZE)
    total = weight.sum(axis=(1, 2))
    return np.stack([(weight.sum(axis=1) @ where) / total, (weight.sum(axis=2) @ where) / total], axis=1)


def test_the_same_generator_draws_the_same_lesson():
    one, two, other = (draw_lesson(np.random.default_rng(seed), size=64) for seed in (1, 1, 2))
    for name in ("images", "attributes", "values"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(one.images, other.images)


def test_a_lesson_is_a_clip_and_a_vector_per_cell():
    lesson = draw_lesson(np.random.default_rng(3), frames=4, size=96)
    assert (lesson.images.shape, lesson.images.dtype) == ((4, 96, 96, 3), np.uint8)
    assert lesson.attributes.shape == (3, 3, len(ATTRIBUTES))
    assert lesson.values.shape == (3, 3, len(VALUES))
    assert lesson.attributes.min() >= 0
    assert lesson.attributes.max() == 1
    assert np.isfinite(lesson.values).all()


def test_velocity_is_that_of_the_picture():
    canvas, _ = drawn(disc(x=16 + 1.5 * (MOMENTS - 2.5), y=16 - 0.5 * (MOMENTS - 2.5)))
    moved = np.diff(centres(canvas.images), axis=0).mean(axis=0)
    np.testing.assert_allclose(moved, (1.5, -0.5), atol=0.05)
    middle = canvas.facts[:, :, 4, 4].mean(axis=0)
    assert middle[FACTS.index("right")] == pytest.approx(squash(moved[0]), abs=0.05)
    assert middle[FACTS.index("down")] == pytest.approx(squash(moved[1]), abs=0.05)
    assert middle[FACTS.index("speed")] == pytest.approx(squash(np.hypot(*moved)), abs=0.05)
    assert middle[FACTS.index("jerk")] == pytest.approx(0, abs=1e-6)


def test_a_steady_motion_has_no_jerk_and_a_shaken_one_has():
    shaken, _ = drawn(disc(x=16 + np.array([1.0, -2, 2, -1, 2, -2, 1, -1])))
    assert value(shaken, "jerk 1,1") > 0.8
    assert value(shaken, "unrest 0,0") > 0
    still, _ = drawn(disc())
    assert value(still, "jerk 1,1") == 0
    assert value(still, "unrest 0,0") == value(still, "change 1,1") == 0


def test_growth_turning_flicker_and_fading_have_their_signs():
    growing, _ = drawn(disc(a=6 * np.exp(0.05 * MOMENTS), b=6 * np.exp(0.05 * MOMENTS)))
    assert growing.facts[0, FACTS.index("growth"), 4, 4] == pytest.approx(5 * 0.05, abs=1e-3)
    assert (np.diff((growing.images[:, 0] > 170).sum(axis=(1, 2))) > 0).all()
    turning, _ = drawn(disc(kind="box", angle=-0.1 * MOMENTS))
    assert turning.facts[0, FACTS.index("turn"), 4, 4] == pytest.approx(-0.2)
    fading, _ = drawn(disc(opacity=np.linspace(1, 0.3, FRAMES + 2)))
    assert value(fading, "fade 0,0") < 0
    assert (np.diff(fading.images[:, 0, 16, 16]) < 0).all()
    flickering, _ = drawn(disc(gain=np.array([1, 0.6, 1, 0.6, 1, 0.6, 1, 0.6])))
    assert flickering.facts[0, FACTS.index("flicker"), 4, 4] == pytest.approx(0.8)


def test_the_part_drawn_last_hides_the_others():
    canvas, _ = drawn(disc(x=16 + 2 * (MOMENTS - 2.5)), disc(colour=np.array([20.0, 20, 240])))
    np.testing.assert_allclose(canvas.images[:, :, 16, 16], [[20, 20, 240]] * FRAMES)
    assert canvas.facts[3, FACTS.index("right"), 4, 4] == 0


def test_parts_beyond_the_edge_are_cut_off():
    for place in (-3.0, SIZE + 3.0, -100.0):
        canvas, shown = drawn(disc(x=STILL + place))
        assert np.isfinite(canvas.images).all()
        assert shown.sum() < 5


def test_a_thing_counts_in_the_cells_it_lies_in():
    _, in_one = drawn(disc())
    np.testing.assert_array_equal(presence(np.minimum(in_one, 1)), [[1, 0], [0, 0]])
    _, in_two = drawn(disc(x=STILL + 32))
    np.testing.assert_array_equal(presence(np.minimum(in_two, 1)) == 1, [[True, True], [False, False]])


@pytest.mark.parametrize("texture", ["stripes", "checks", "grain"])
def test_textures_have_contrast(texture):
    plain, _ = drawn(disc(a=STILL + 12, b=STILL + 12))
    rough, _ = drawn(disc(a=STILL + 12, b=STILL + 12, texture=texture, period=6.0))
    inside = (slice(None), 0, slice(12, 20), slice(12, 20))
    assert rough.images[inside].std() > plain.images[inside].std() + 10


def mirrored_part(part: Part) -> Part:
    return Part(**(vars(part) | {"x": SIZE - 1 - part.x, "angle": -part.angle}))


def test_a_mirrored_lesson_is_the_lesson_of_the_mirrored_scene():
    part = disc(kind="box", a=STILL + 5, x=14 + 0.8 * MOMENTS, y=STILL + 18, angle=0.2 * MOMENTS)
    values = [draw_values(drawn(each)[0], np.zeros((2, 2))) for each in (part, mirrored_part(part))]
    empty = np.zeros((2, 2, len(ATTRIBUTES)), dtype=np.float32)
    lesson = Lesson(np.zeros((FRAMES, SIZE, SIZE, 3), dtype=np.uint8), empty, values[0])
    # Facts are sampled at every fourth pixel, the second of four, which in the mirror is the third.
    np.testing.assert_allclose(lesson.mirrored().values, values[1], atol=0.2)
    assert np.abs(values[0] - values[1]).max() > 0.5


def test_the_mirror_of_the_mirror_is_the_lesson():
    lesson = draw_lesson(np.random.default_rng(5), size=64)
    again = lesson.mirrored().mirrored()
    for name in ("images", "attributes", "values"):
        np.testing.assert_array_equal(getattr(again, name), getattr(lesson, name))
    np.testing.assert_array_equal(lesson.mirrored().images[:, :, 0], lesson.images[:, :, -1])
    limbs = np.zeros((1, 1, len(ATTRIBUTES)), dtype=np.float32)
    limbs[..., ATTRIBUTES.index("limb1")] = 1
    turned = Lesson(lesson.images, limbs, lesson.values[:1, :1]).mirrored().attributes
    assert [ATTRIBUTES[i] for i in np.flatnonzero(turned)] == ["limb7"]


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_changes_what_its_name_says(motion):
    rng = np.random.default_rng(4)
    moves = pose(rng, (motion,), 2.0 * (MOMENTS - 2.5))
    changed = {name for name, values in vars(moves).items() if np.ptp(values) > 1e-9}
    expected = {"turn": {"angle"}, "grow": {"scale"}, "shrink": {"scale"}, "flicker": {"gain"}, "pulse": {"gain"}}
    expected |= {"still": set(), "appear": {"opacity"}, "vanish": {"opacity"}}
    assert changed == expected.get(motion, {"dx", "dy"})
    if motion in ("grow", "appear"):
        assert (moves.scale * moves.opacity)[-2] > (moves.scale * moves.opacity)[1]


def test_a_swinging_limb_is_smooth_and_a_random_one_is_not():
    times = np.linspace(0, 4, 60)
    rough = {style: np.abs(np.diff(swing(np.random.default_rng(1), style, times), 2)).mean() for style in STYLES}
    assert rough["held"] == 0
    assert rough["sweep"] < 1e-9
    assert rough["swing"] < 0.05 < rough["random"]


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="motion: expected one of still, .* got 'fly'"):
        pose(np.random.default_rng(0), ("fly",), MOMENTS)
    with pytest.raises(ValueError, match="style: expected one of held, .* got 'limp'"):
        swing(np.random.default_rng(0), "limp", MOMENTS)


def test_things_have_the_attributes_of_their_family():
    seen = np.zeros(len(ATTRIBUTES))
    for seed in range(150):
        thing = make_thing(np.random.default_rng(seed), (STILL + 32, STILL + 32), MOMENTS)
        named = {name for name, has in zip(ATTRIBUTES, thing.attributes, strict=True) if has}
        assert len(named & {"single", "compound", "chain", "cloud", "swarm", "heap"}) == 1
        assert len(named & {"tiny", "small", "middle", "large"}) == 1
        assert named & set(MOTIONS)
        assert any(name.startswith("limbs") for name in named) == ("chain" in named)
        seen += thing.attributes
    assert [name for name, count in zip(ATTRIBUTES, seen, strict=True) if not count] == [
        "meets",
        "parts",
        "keeps apart",
        "to and fro",
        "by jerks",
    ]


def test_a_shaking_camera_moves_the_background_and_light_changes_it():
    rng = np.random.default_rng(2)
    shift = np.array([[0, 0], [3, 0], [0, -5]])
    camera = Camera(shift, np.ones((3, 3), dtype=np.float32), noise=0.0, blur=False, coarse=0.0)
    seen = camera.background(rng, 96)
    np.testing.assert_array_equal(seen[1, :, :-3], seen[0, :, 3:])
    np.testing.assert_array_equal(seen[2, :, :, 5:], seen[0, :, :, :-5])
    darker = Camera(shift, np.full((3, 3), 0.5, dtype=np.float32), noise=0.0, blur=False, coarse=0.0)
    half = darker.develop(np.full((3, 3, 32, 32), 100, dtype=np.float32), rng)
    assert (half == 50).all()


def test_compression_keeps_flat_blocks_and_takes_away_faint_texture():
    camera = Camera(np.zeros((1, 2), dtype=int), np.ones((1, 3), dtype=np.float32), noise=0.0, blur=False, coarse=20.0)
    images = np.full((1, 3, 32, 32), 90, dtype=np.float32)
    images[:, :, ::3] += 4
    images[:, :, :8] = 200
    developed = camera.develop(images, np.random.default_rng(0))
    assert developed[0, :8].std() == 0
    assert np.ptp(developed[0, 8:16, 0, 0]) == 0
