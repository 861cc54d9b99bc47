"""`gig explain`: distinct peaks, an overlay where the cells are, ground truth on request only, and what is missing."""

from __future__ import annotations

import copy
import itertools
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from conftest import NANO
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from pipeline.cli.main import main
from pipeline.config import load_experiment
from pipeline.data.decoding.geometry import PAPER_CROP, Fit, centre_crop
from pipeline.data.synthetic.city.events import place_event
from pipeline.data.synthetic.city.scene import camera
from pipeline.errors import DecodeError, PipelineError
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.explain import explain
from pipeline.stages.explain.explain import _runs
from pipeline.stages.explain.peaks import pick_peaks
from pipeline.stages.explain.plots import Curve, Overlay, WindowView, curve_figure, window_figure
from pipeline.stages.explain.relations import cell_boxes, check_choice, why_no_overlay

SIZES = [(256, 256), (340, 256), (1920, 1080), (240, 426)]


def hill(centre, height, width=4.0, windows=60):
    return height * np.exp(-(((np.arange(windows) - centre) / width) ** 2) / 2)


def test_peaks_are_distinct_and_by_height():
    starts = np.arange(60) * 3
    two = hill(12, 0.6) + hill(40, 0.9)
    assert pick_peaks(two, starts, 24, 5) == [40, 12]
    assert pick_peaks(two, starts, 24, 1) == [40]
    assert pick_peaks(hill(20, 0.9), starts, 24, 10) == [20]  # not ten neighbours of one peak
    ripples = hill(30, 0.9) + 0.02 * np.cos(np.arange(60) * 2.1)
    found = pick_peaks(ripples, starts, 24, 4)
    assert len(found) > 1
    assert all(abs(a - b) * 3 >= 24 for a, b in itertools.combinations(found, 2))


def test_the_ends_count_and_a_flat_curve_has_one_peak():
    starts = np.arange(60) * 3
    assert pick_peaks(np.linspace(0, 1, 60), starts, 24, 3) == [59]
    assert len(pick_peaks(np.full(60, 0.3), starts, 24, 3)) == 1
    assert pick_peaks(np.array([0.2]), np.array([0]), 24, 3) == [0]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_cells_tile_what_the_backbone_sees(width, height):
    boxes = cell_boxes(width, height, PAPER_CROP, 7, 7)
    geometry = centre_crop(224, 256).geometry(width, height)
    for position, (x0, y0, x1, y1) in enumerate(boxes):
        x, y = geometry.to_picture((x0 + x1) / 2, (y0 + y1) / 2)
        assert int(y // 32) * 7 + int(x // 32) == position
        np.testing.assert_allclose(geometry.box_to_picture(x0, y0, x1, y1)[2:], np.add(geometry.to_picture(x0, y0), 32))
    assert boxes.min() >= -1e-9
    assert (boxes[:, 2].max() <= width + 1e-9, boxes[:, 3].max() <= height + 1e-9) == (True, True)


@pytest.mark.parametrize("number", range(6))
def test_the_cell_of_a_synthetic_anomaly_lies_over_it(number):
    """The place of the anomaly, as the hit rate reads it, lies in the cell that is drawn."""
    event = place_event(np.random.default_rng(number), "Shooting", 0, 20, camera(0, "train", number), bool(number % 2))
    x0, y0, x1, y1 = event.box_at(10)
    x, y = centre_crop(224, 256).geometry(256, 256).to_picture((x0 + x1) / 2, (y0 + y1) / 2)
    left, top, right, bottom = cell_boxes(256, 256, PAPER_CROP, 7, 7)[int(y // 32) * 7 + int(x // 32)]
    assert (left <= x0 + 1, right >= x1 - 1) == (True, True)  # small anomalies lie within a column of cells
    assert top <= (y0 + y1) / 2 <= bottom


def view(image, overlay, missing=None):
    return WindowView("v", 1, 10, 15, 12, 0.5, "Fighting", {"Fighting": 0.8, "Crowd": 0.1}, image, overlay, missing)


def rendered(figure, axes):
    """The pixels (h, w, 3) of a drawn figure, and a function from their places to the data coordinates of `axes`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    inverse = axes.transData.inverted()

    def to_data(mask):
        y, x = np.nonzero(mask)
        return inverse.transform(np.column_stack([x + 0.5, len(pixels) - y - 0.5]))

    return pixels, to_data


@pytest.mark.parametrize(
    ("width", "height", "position"), [(256, 256, 0), (340, 256, 48), (1920, 1080, 17), (240, 426, 26)]
)
def test_the_picture_shows_map_and_cell_where_they_belong(width, height, position):
    boxes = cell_boxes(width, height, PAPER_CROP, 7, 7)
    relation = np.zeros((7, 7), np.float32)
    relation.flat[position] = 1
    image = np.zeros((height, width, 3), np.uint8)
    figure = window_figure(view(image, Overlay(relation, boxes, (position,))))
    axes = figure.axes[1]
    pixels, to_data = rendered(figure, axes)
    area = axes.get_window_extent()
    inside = np.zeros(pixels.shape[:2], bool)
    inside[int(len(pixels) - area.y1) : int(len(pixels) - area.y0), int(area.x0) : int(area.x1)] = True
    x0, y0, x1, y1 = boxes[position] - 0.5
    side = x1 - x0
    outline = to_data(inside & (pixels[..., 2] > 200) & (pixels[..., 0] < 60))  # the colour of chosen cells
    np.testing.assert_allclose([outline[:, 0].min(), outline[:, 0].max()], [x0, x1], atol=0.06 * side)
    np.testing.assert_allclose([outline[:, 1].min(), outline[:, 1].max()], [y0, y1], atol=0.06 * (y1 - y0))
    hot = to_data(
        inside & (pixels[..., 0] > 115) & (pixels[..., 2] < 120)
    )  # the bright end of the colour scale, half transparent
    middle = hot.mean(axis=0)
    assert x0 <= middle[0] <= x1
    assert y0 <= middle[1] <= y1
    assert axes.get_aspect() == 1  # not squeezed


@pytest.mark.parametrize(("size", "cell"), [((1920, 1080), (3, 9)), ((200, 400), (5, 4)), ((400, 100), (2, 0))])
@pytest.mark.parametrize("kind", ["stretch", "letterbox"])
def test_a_wide_map_lies_over_the_whole_picture_and_never_beside_it(kind, size, cell):
    width, height = size
    fit, (rows, columns) = Fit(kind, 224, 384), (7, 12)
    empty = fit.empty_cells(width, height, rows, columns)
    row, column = cell
    assert not empty[cell]
    relation = np.where(empty, 0, 0.5).astype(np.float32)
    relation[cell] = 1
    position = row * columns + column
    boxes = cell_boxes(width, height, fit, rows, columns)
    overlay = Overlay(relation, boxes, (position,), fit.seen_cells(width, height, rows, columns))
    hull = overlay.hull
    assert (hull[0] <= 0.01, hull[1] <= 0.01, hull[2] >= width - 0.01, hull[3] >= height - 0.01) == (True,) * 4
    figure = window_figure(view(np.zeros((height, width, 3), np.uint8), overlay))
    axes = figure.axes[1]
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, width - 0.5), (height - 0.5, -0.5))
    _, shown = axes.images
    low, high = shown.get_clim()
    assert (low, high) == (0.5, 1)  # the zeros of the padding do not stretch the scale
    x0, x1, y1, y0 = shown.get_extent()
    grid = shown.get_array()
    down, across = (y1 - y0) / grid.shape[0], (x1 - x0) / grid.shape[1]
    hot = np.unravel_index(np.argmax(grid), grid.shape)
    middle = x0 + (hot[1] + 0.5) * across, y0 + (hot[0] + 0.5) * down
    expected = boxes[position].reshape(2, 2).mean(axis=0) - 0.5
    np.testing.assert_allclose(middle, expected, atol=1e-6 * max(size))


def test_the_curve_shows_intervals_only_when_it_has_them():
    scores = np.column_stack([hill(20, 0.7), hill(40, 0.3)]).astype(np.float32)
    curve = Curve("v", ("Fighting", "Crowd"), np.arange(60) / 12, scores, (20, 40), None)
    labels = {text.get_text() for text in curve_figure(curve).axes[0].texts}
    assert labels == {"1", "2"}
    axes = curve_figure(replace(curve, intervals=[("Crowd", 30, 50)])).axes[0]
    assert "Crowd\n(annotated)" in {text.get_text() for text in axes.texts}
    (band,) = axes.patches
    np.testing.assert_allclose([band.get_x(), band.get_x() + band.get_width()], [30 / 12, 49 / 12])
    assert [line.get_label() for line in axes.get_legend().get_lines()] == ["Fighting", "Crowd"]


def test_intervals_are_the_runs_of_the_frame_labels():
    labels = np.zeros((9, 2), bool)
    labels[2:5, 1] = labels[4:9, 0] = labels[7:8, 1] = True
    assert _runs(labels, ("a", "b")) == [("b", 2, 5), ("a", 4, 9), ("b", 7, 8)]


def test_what_is_not_available_is_said():
    experiment = SimpleNamespace(features=SimpleNamespace(test=None))
    head = SimpleNamespace(settings=SimpleNamespace(name="rtfm"))
    chosen, none = SimpleNamespace(positions=np.zeros((4, 8))), SimpleNamespace(positions=np.zeros((4, 0)))
    assert why_no_overlay(experiment, head, chosen, 7, 7) is None
    assert "(rtfm) has no spatial reasoning" in why_no_overlay(experiment, head, none, 7, 7)
    assert "single position" in why_no_overlay(experiment, head, chosen, 1, 1)
    imported = SimpleNamespace(features=SimpleNamespace(test="published"))
    assert "imported" in why_no_overlay(imported, head, chosen, 7, 7)
    figure = window_figure(view(np.zeros((20, 30, 3), np.uint8), None, "the head has none"))
    assert figure.axes[1].texts[0].get_text() == "not available:\nthe head has none"


def test_a_map_that_scoring_did_not_choose_by_is_an_error():
    relation = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    check_choice(relation, np.array([[8, 7]]), "v")
    with pytest.raises(PipelineError, match="v: expected the chosen cells"):
        check_choice(relation, np.array([[8, 2]]), "v")


def test_rounding_of_products_is_no_other_choice():
    relation = np.array([[[136428.25, 136428.265625, 4.0]]], dtype=np.float32)  # neighbours in float32
    check_choice(relation, np.array([[0]]), "v")
    with pytest.raises(PipelineError, match="v: expected the chosen cells"):
        check_choice(relation, np.array([[2]]), "v")


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """The nano experiment with its test features and heads; call it with arguments of `gig explain`."""
    folder = tmp_path_factory.mktemp("explain")
    data = copy.deepcopy(NANO) | {"paths": {"output": str(folder / "var"), "cache": str(folder / "cache")}}
    config = folder / "nano.yaml"
    config.write_text(yaml.safe_dump(data))

    def run(*arguments, out="out"):
        command = ["explain", "--config", str(config), "--out", str(folder / out), *arguments]
        return CliRunner().invoke(main, command), folder / out

    run.recipes = Recipes(load_experiment(config))
    return run


def made(out):
    """The folder of a video's pictures."""
    (folder,) = (path for path in out.iterdir() if path.name != ".locks")
    return folder


@pytest.mark.slow
def test_a_cached_video_is_explained_without_its_truth(explained):
    assert explained("test_Fighting_001", out="first")[0].exit_code == 0
    recipes = explained.recipes
    truth = recipes.manifest_folder / "truth"
    hidden = truth.with_name("elsewhere")
    shutil.move(truth, hidden)
    try:
        result, out = explained("test_Fighting_001", "--windows", "2")
        assert result.exit_code == 0, result.output
        assert explained("test_Fighting_001", "--truth", out="third")[0].exit_code == 1  # it cannot do without
    finally:
        shutil.move(hidden, truth)
    folder = made(out)
    index = json.loads((folder / "index.json").read_text())
    assert index["truth"] is None
    assert (index["video"], index["run"], index["not_available"]) == ("test_Fighting_001", "gig", {})
    assert 1 <= len(index["windows"]) <= 2
    for entry in index["windows"]:
        assert entry["label"] == max(entry["class_scores"], key=entry["class_scores"].get)
        assert entry["first_frame"] <= entry["shown_frame"] <= entry["last_frame"]
        relation = np.array(entry["relation"]).ravel()
        assert set(np.argsort(-relation)[:8]) == set(entry["positions"])
        np.testing.assert_allclose(entry["cells"], cell_boxes(256, 256, PAPER_CROP, 7, 7)[entry["positions"]])
    best, *others = (entry["score"] for entry in index["windows"])
    assert best >= max(others, default=0)
    with Image.open(folder / index["windows"][0]["file"]) as picture:
        assert picture.width > 900
    printed = [line for line in result.stdout.splitlines() if line.startswith(str(out))]
    assert printed == [str(path) for path in sorted(folder.iterdir())]


@pytest.mark.slow
def test_the_truth_is_drawn_on_request(explained):
    result, out = explained("test_Fighting_001", "--truth", out="truth")
    assert result.exit_code == 0, result.output
    folder = made(out)
    found = json.loads((folder / "index.json").read_text())["truth"]
    table = pq.read_table(explained.recipes.manifest_folder / "truth" / "intervals.parquet").to_pylist()
    expected = [row for row in table if row["video_id"] == "test_Fighting_001"]
    frames = [{f for row in rows for f in range(row["start_frame"], row["end_frame"])} for rows in (found, expected)]
    assert frames[0] == frames[1] != set()
    assert {row["label"] for row in found} == {"Fighting"}
    again, _ = explained("test_Fighting_001", out="truth")
    assert again.exit_code == 1
    assert "is there already" in again.output


@pytest.mark.slow
def test_a_video_file_gives_what_the_cached_video_gives(explained):
    cached = explained("test_Fighting_001", out="cached")[1]
    path = explained.recipes.manifest_folder / "videos" / "test_Fighting_001.mp4"
    result, out = explained(str(path), out="file")
    assert result.exit_code == 0, result.output
    one, other = (json.loads((made(folder) / "index.json").read_text()) for folder in (cached, out))
    assert one["windows"] == other["windows"]
    refused, _ = explained(str(path), "--truth", out="refused")
    assert "--truth: expected a test video" in refused.output


@pytest.mark.slow
def test_an_unknown_video_is_an_error_with_the_nearest_ids(explained):
    result, _ = explained("test_Fightin_001")
    assert result.exit_code == 1
    assert "the nearest ids: test_Fighting_001" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("command", ["explain", "render"])
def test_of_a_video_in_quarantine_the_reason_is_said(explained, command):
    assert explained("none")[0].exit_code == 1  # the manifest is made
    quarantine = explained.recipes.quarantine
    quarantine.add("test_Fighting_001", "test_Fighting_001.mp4", "test", DecodeError("the file is empty"))
    try:
        config = explained.recipes.experiment.paths.output.parent / "nano.yaml"
        result = CliRunner().invoke(main, [command, "test_Fighting_001", "--config", str(config)])
    finally:
        quarantine.clear()
    assert result.exit_code == 1
    assert "test_Fighting_001 (test) could not be read and is in quarantine: the file is empty. Repair" in result.output


@pytest.mark.slow
def test_a_head_without_spatial_reasoning_still_has_curve_and_frames(explained, monkeypatch):
    original = explain.score_video

    def without_positions(*arguments):
        scores = original(*arguments)
        return replace(scores, positions=scores.positions[:, :0])

    monkeypatch.setattr(explain, "score_video", without_positions)
    result, out = explained("test_Fighting_001", "--run", "untrained", out="pooled")
    assert result.exit_code == 0, result.output
    index = json.loads((made(out) / "index.json").read_text())
    assert "has no spatial reasoning" in index["not_available"]["relation_map"]
    assert [entry["cells"] for entry in index["windows"]] == [[]] * len(index["windows"])
    assert {"curve.png", "window-1.png"} <= {path.name for path in made(out).iterdir()}
