"""Rendered videos: their frames, times, sound and what is drawn; the strip and the relation maps by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_videos import first_click_s, write_video

from pipeline.data.decoding.decode import iter_raw_frames
from pipeline.data.decoding.geometry import Fit, centre_crop
from pipeline.data.events import Event
from pipeline.stages.clips.heat import Heat, HeatMaps
from pipeline.stages.clips.render import RenderJob, render, render_video
from pipeline.stages.clips.strip import COLOURS, INK, Scores, Strip, _kept
from pipeline.stages.clips.text import clock, font, line

VARIABLE = np.array([0, 0.04, 0.08, 0.5, 0.52, 0.56, 1.2, 1.24, 1.28, 1.32])
FIGHT = Event("v", "", "Fighting", 0.08, 0.52, 2, 5, 0.1, 0.9, 0.5)


def scores(frames: int, classes: tuple[str, ...] = ("Fighting", "Fire")) -> Scores:
    general = np.linspace(0, 1, frames)
    return Scores(classes, general, np.outer(general, np.linspace(1, 0.5, len(classes))))


def job(path: Path, frames: int, **options: object) -> RenderJob:
    values = {"scores": scores(frames), "events": (FIGHT,), "heat": None, "over": False, "max_pixels": 10**7}
    return RenderJob(path, path.with_name("out.mp4"), **(values | options))


def rendered(path: Path, frames: int, **options: object):
    made, notes = job(path, frames, **options), []
    assert render(made, lambda kind, value: notes.append(value) if kind == "note" else None) == frames
    return list(iter_raw_frames(made.out)), notes


class TestRender:
    def test_every_frame_keeps_its_time_and_the_sound_its_place(self, tmp_path):
        source = write_video(tmp_path / "v.mp4", VARIABLE, clicks_s=[0.5], size=(352, 288))
        frames, notes = rendered(source, 10)
        np.testing.assert_allclose([frame.time_s for frame in frames], VARIABLE, atol=1e-4)
        assert first_click_s(tmp_path / "out.mp4") == pytest.approx(0.5, abs=0.02)
        assert notes == []

    @pytest.mark.parametrize("over", [False, True])
    def test_the_picture_is_the_source_s_upright(self, tmp_path, over):
        source = write_video(tmp_path / "v.mp4", VARIABLE, size=(288, 352), rotation=90)
        frames, _ = rendered(source, 10, over=over)
        strip = Strip(352, scores(10), [FIGHT])
        assert frames[0].image.shape == (288 + (0 if over else strip.height), 352, 3)
        for ours, theirs in zip(frames, iter_raw_frames(source), strict=True):
            free = 288 - strip.height if over else 288
            assert np.abs(ours.image[:free].astype(int) - theirs.image[:free]).mean() < 4

    def test_a_narrow_picture_gets_a_border(self, tmp_path):
        frames, _ = rendered(write_video(tmp_path / "v.mp4", VARIABLE), 10)
        assert frames[0].image.shape[1] == 320
        assert frames[0].image[:64, :100].max() < 20

    def test_a_low_picture_is_not_drawn_over(self, tmp_path):
        source = write_video(tmp_path / "v.mp4", VARIABLE)
        frames, notes = rendered(source, 10, over=True)
        assert frames[0].image.shape[0] > 64
        assert np.abs(frames[0].image[:64, 112:208].astype(int) - next(iter_raw_frames(source)).image).mean() < 4
        assert "too low to draw over" in notes[0]

    def test_scores_of_another_number_are_told(self, tmp_path):
        source = write_video(tmp_path / "v.mp4", VARIABLE)
        made, notes = job(source, 7), []
        assert render(made, lambda kind, value: notes.append(value) if kind == "note" else None) == 10
        assert "7 scores for 10 frames" in notes[0]

    def test_in_a_process_of_its_own(self, tmp_path):
        steps: list[tuple] = []
        made = job(write_video(tmp_path / "v.mp4", VARIABLE), 10)
        assert render_video(made, lambda *step: steps.append(step)) == 10
        assert steps == [(8, 10, "v.mp4")]
        assert made.out.stat().st_size > 0


class TestStrip:
    def test_the_line_goes_from_one_edge_to_the_other(self):
        strip = Strip(640, scores(100), [])
        row = strip.height - 3
        places = [np.flatnonzero((strip.at(index, 0.0)[row] == INK).all(axis=1)).mean() for index in (0, 50, 99, 500)]
        assert places[0] < 10
        assert places[1] == pytest.approx(320, abs=8)
        assert places[2] == pytest.approx(6 + 0.99 * 627, abs=2)  # when the last frame begins
        assert places[3] == places[2]  # past the last score

    def test_across_is_time_and_not_frames(self):
        """At a variable frame rate a frame lies where it is shown, on the curve, its line and the bars."""
        times = np.concatenate([np.arange(50) / 50, 1 + np.arange(1, 51) / 12.5])  # one second of five
        seen = Scores(("Fire",), np.zeros(100), np.zeros((100, 1)), times)
        strip = Strip(640, seen, [Event("v", "", "Fire", 1.0, 5.0, 50, 100, 2.0, 1, 1)])
        image = strip.at(50, float(times[50]))
        bar = np.flatnonzero((image[strip.height - 12] == COLOURS[0]).all(axis=1))
        assert (bar.min(), bar.max()) == (pytest.approx(640 * times[50] / 5.08, abs=8), pytest.approx(633, abs=3))
        line_at = np.flatnonzero((image[strip.height - 3] == INK).all(axis=1)).mean()
        assert line_at == pytest.approx(bar.min(), abs=2)

    @pytest.mark.parametrize("width", [320, 640, 1920])
    def test_the_legend_has_the_colours_of_curves_and_bars(self, width):
        names = ("Fighting", "Fire", "A name that is so long that it hardly leaves any room for others")
        strip = Strip(width, scores(50, names), [Event("v", "", "Other", 0, 1, 0, 25, 0, 1, 1)])
        image = strip.at(40, 1.6)
        legend = image[22 : strip.height // 2]
        shown = [colour for colour in COLOURS if (legend == colour).all(axis=2).any()]
        assert len(shown) == 4
        assert (image[strip.height - 12 :] == shown[3]).all(axis=2).any()

    def test_bars_are_as_long_as_their_events(self):
        bare, strip = (
            Strip(640, scores(100), []),
            Strip(640, scores(100), [Event(*("v", "", "Fire"), 0, 1, 25, 75, 0, 1, 1)]),
        )
        bar = strip.at(0, 0.0)[bare.height + 1]
        assert np.flatnonzero((bar > 60).any(axis=1))[10:-1].mean() == pytest.approx(320, abs=10)
        assert len(np.flatnonzero((bar > 60).any(axis=1))) == pytest.approx(314, abs=12)

    def test_it_says_an_alarm_during_an_event_alone(self):
        strip = Strip(640, scores(10), [FIGHT])
        red = [(strip.at(index, 0.0)[:20, :200].astype(int) @ (1, -1, 0) > 100).any() for index in range(10)]
        assert np.flatnonzero(red).tolist() == [2, 3, 4]

    def test_scores_without_classes_and_of_one_frame(self):
        assert Strip(320, scores(1, ()), []).at(0, 0.0).shape[1:] == (320, 3)

    def test_no_peak_is_lost_of_a_long_curve(self):
        values = np.zeros(100_000)
        values[77_777] = 1
        kept = _kept(values, 1000)
        assert 77_777 in kept
        assert len(kept) < 1100


@pytest.mark.parametrize(
    ("time_s", "plain", "tenths"),
    [(0, "0:00", "0:00.0"), (59.97, "0:59", "1:00.0"), (754.26, "12:34", "12:34.3"), (3661, "1:01:01", "1:01:01.0")],
)
def test_a_clock_has_minutes_and_from_an_hour_on_hours(time_s, plain, tenths):
    assert (clock(time_s), clock(time_s, tenths=True)) == (plain, tenths)


def test_text_is_one_line_within_its_room():
    assert line("a\nb\x00", 14, 500) == "a b�"
    cut = line("long " * 100, 14, 200)
    assert cut.endswith("…")
    assert font(14).getlength(cut) <= 200


def test_the_nearest_window_s_map_lies_where_the_backbone_looks():
    maps = np.zeros((2, 2, 2), np.float32)
    maps[0, 0, 0] = maps[1, 1, 1] = 1  # first the upper left, then the lower right
    heat = Heat(HeatMaps(maps, np.array([4, 12]), centre_crop(64, 64)), 128, 64)  # the middle square of a wide picture
    image = np.full((64, 128, 3), 50, np.uint8)
    first, second = heat.over(image, 0).astype(int), heat.over(image, 9).astype(int)
    np.testing.assert_array_equal(first[:, :32], 50)
    np.testing.assert_array_equal(first[:, 96:], 50)
    assert first[8, 40].sum() > first[56, 88].sum() + 200
    assert second[56, 88].sum() > second[8, 40].sum() + 200
    np.testing.assert_array_equal(heat.over(image, 8), first)  # frame 8 is as near to the first
    assert (image == 50).all()


@pytest.mark.parametrize("size", [(192, 108), (60, 120), (120, 60)])
@pytest.mark.parametrize("kind", ["stretch", "letterbox"])
def test_the_map_of_a_whole_picture_covers_it_and_nothing_of_the_padding_is_seen(kind, size):
    width, height = size
    fit = Fit(kind, 128, 192)
    rows, columns = 4, 6
    empty = fit.empty_cells(width, height, rows, columns)
    left, right = np.full((2, rows, columns), 0.5, np.float32)
    geometry = fit.geometry(width, height)
    x, y = geometry.to_picture(0.25 * width, 0.5 * height)
    left[int(y // 32), int(x // 32)] = 1
    right[:, ::-1] = left
    for relation in (left, right):
        relation[empty] = 0  # as relation maps have it; drawn, it would stretch the scale of the colours
    image = np.full((height, width, 3), 50, np.uint8)
    first, second = (
        Heat(HeatMaps(np.stack([left, right]), np.array([4, 12]), fit), width, height).over(image, index).astype(int)
        for index in (0, 20)
    )
    assert (np.abs(first - 50).sum(axis=2) > 0).all()  # every pixel has its part of the map
    np.testing.assert_allclose(first[:, ::-1], second, atol=12)
    middle = height // 2
    assert first[middle, width // 4].sum() > first[middle, 3 * width // 4].sum() + 100
    away = first[:, 7 * width // 8 :]
    assert away.max() < 60  # the lowest of the scale, for no zero of the padding is below it
