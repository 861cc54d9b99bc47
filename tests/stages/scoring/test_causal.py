"""`scoring.cue: running`: what comes later changes no score, but for the windows that cover a frame."""

from __future__ import annotations

from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from conftest import NANO
from small_dataset import entry, extract

from cache import FeatureStore
from pipeline.config import Run, Scoring, parse_experiment
from pipeline.config.heads import parse_head
from pipeline.config.runs import Training
from pipeline.data.manifest import Manifest
from pipeline.errors import ConfigError, PipelineError
from pipeline.models.cues import overview
from pipeline.models.reduction import Standardizer, global_pattern_cue, pattern_vectors, relation_map
from pipeline.stages.explain.relations import check_choice, relation_maps
from pipeline.stages.scoring.causal import smooth_back
from pipeline.stages.scoring.score import score_video
from pipeline.stages.scoring.score_loose import score_files
from pipeline.stages.training.saved_heads import TrainedHead, make_head, save_head
from pipeline.stages.training.windows import WINDOWS_AT_ONCE, reduce_windows

FRAMES, CUT, SPAN = 95, 81, 6
HEADS = (
    {"name": "gig"},
    {"name": "gig", "standardize": True},
    {"name": "gig", "cue_of": "segment"},
    {"name": "gig", "cue_of": "top_segments", "relation": "background", "standardize": True},
    {"name": "gig", "channel_attention": 4},
    {"name": "gig", "channel_attention": 4, "reduction": "max"},
    {"name": "mil_ranking", "reduction": "mean", "enhancement": True},
    {"name": "pattern_norm"},
)
SCORINGS = [{"smooth_on": smooth_on} for smooth_on in ("none", "windows", "frames")]


def untrained(settings: dict) -> TrainedHead:
    """A head that has learnt nothing; its scores move with what it sees all the same."""
    head = parse_head(settings)
    module = make_head(head, Training(seed=1), 2048, 2).eval()
    if head.name == "gig" and head.channel_attention:
        torch.nn.init.normal_(module.attention.excite.weight, std=0.05)
    statistics = Standardizer(torch.full((2048,), 0.1), torch.full((2048,), 0.3), 0.5) if head.standardize else None
    return TrainedHead(module, head, statistics, ("Fighting", "Robbery"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> SimpleNamespace:
    """A video whose picture grows busier, the file cut in two, and the features of the whole and of the first part."""
    folder = tmp_path_factory.mktemp("causal")
    generator = np.random.default_rng(0)
    with av.open(str(folder / "whole.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0"})  # packets in the order of frames
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for index in range(FRAMES):
            image = np.full((96, 96, 3), 60, np.uint8)
            for _ in range(1 + index // 8):
                x, y = generator.integers(0, 80, 2)
                image[y : y + 16, x : x + 16] = generator.integers(0, 256, 3)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(folder / "whole.mp4")) as source, av.open(str(folder / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in [packet for packet in source.demux(video=0) if packet.size][:CUT]:
            packet.stream = stream
            target.mux(packet)
    data = NANO | {
        "dataset": {"adapter": "csv", "name": "mine", "root": str(folder), "classes": ["Fighting", "Robbery"]},
        "test_sampling": {"stride_frames": 2},
        "paths": {"output": str(folder / "var"), "cache": str(folder / "cache")},
    }
    experiment = parse_experiment(data)
    entries = (entry("whole", "test", packets=FRAMES), entry("cut", "test", packets=CUT))
    extract(experiment, Manifest(folder, ("Fighting", "Robbery"), entries, ()), "test", entries, "test")
    store = FeatureStore.open(experiment.paths.cache)
    assert [len(store.reader("test", name).times()) for name in ("whole", "cut")] == [FRAMES, CUT]
    assert store.reader("test", "cut").shape[1] > WINDOWS_AT_ONCE  # the cue is carried from one piece to the next
    return SimpleNamespace(store=store, whole=folder / "whole.mp4")


def pair(videos: SimpleNamespace, head: TrainedHead, **scoring: object) -> tuple[np.ndarray, np.ndarray]:
    """Scores and class scores of the whole video and of its first part, (frames, 1 + C)."""
    found = [score_video(videos.store, "test", name, head, Scoring(**scoring)) for name in ("whole", "cut")]
    whole, cut = (np.column_stack([scores.anomaly, scores.frames]) for scores in found)
    return whole, cut


@pytest.mark.parametrize("settings", HEADS, ids=str)
def test_a_file_cut_in_two_has_the_scores_of_the_whole_up_to_a_window_before_the_cut(videos, settings):
    head = untrained(settings)
    for scoring in SCORINGS:
        whole, cut = pair(videos, head, cue="running", **scoring)
        known = CUT - SPAN
        np.testing.assert_allclose(cut[:known], whole[:known], rtol=0, atol=1e-6)
        assert np.ptp(whole[:known], axis=0).min() > 1e-3  # there is something to get wrong


def test_no_more_frames_are_known_than_those(videos):
    """The first frame of the cut file's last window, which is moved to the file's end, has another score."""
    whole, cut = pair(videos, untrained({"name": "gig"}), cue="running", smooth_on="none")
    assert np.abs(cut - whole[:CUT])[CUT - SPAN].max() > 1e-4


def test_with_the_cue_of_the_whole_video_or_smoothing_to_both_sides_later_frames_matter(videos):
    whole, cut = pair(videos, untrained({"name": "gig"}), smooth_on="none")
    assert np.abs(cut - whole[:CUT])[: CUT // 2].max() > 1e-4
    control = untrained({"name": "mil_ranking", "reduction": "mean"})  # which sees no cue
    whole, cut = pair(videos, control, smooth_on="none")
    np.testing.assert_allclose(cut[: CUT - SPAN], whole[: CUT - SPAN], rtol=0, atol=1e-6)
    whole, cut = pair(videos, control)
    assert np.abs(cut - whole[:CUT])[: CUT - SPAN].max() > 1e-5


def test_windows_equal_the_equations_with_the_cue_so_far(videos):
    head = untrained({"name": "gig", "standardize": True})
    found = score_video(videos.store, "test", "whole", head, Scoring(cue="running"))
    maps = torch.from_numpy(videos.store.reader("test", "whole").features(0)).float()
    maps = head.standardizer.maps(maps)[None]
    with torch.inference_mode():
        for window in (0, 1, 20, WINDOWS_AT_ONCE, maps.shape[1] - 1):
            cue = global_pattern_cue(maps[:, : window + 1])
            related = relation_map(maps[:, window : window + 1], cue)
            cells = torch.sort(related.flatten(), descending=True, stable=True).indices[: head.settings.k]
            vector = (1 + torch.sigmoid(cue)) * maps[:, window].flatten(1, 2)[:, cells].mean(dim=1)
            expected = torch.sigmoid(head.module.phi2(vector))[0]
            np.testing.assert_allclose(found.windows[window], expected.numpy(), rtol=1e-4)
            assert sorted(found.positions[window]) == sorted(cells.tolist())


OPTIONS = (
    {"standardize": True},
    {"cue_of": "segment"},
    {"cue_of": "top_segments", "cue_segments": 3, "standardize": True},
    {"relation": "background", "standardize": True},
    {"relation": "background_dot", "cue_of": "top_segments"},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_video_in_pieces_is_reduced_as_at_once(videos, options):
    head = untrained({"name": "gig"} | options)
    found = list(reduce_windows(videos.store, "test", "whole", head.settings, head.standardizer))
    maps = torch.from_numpy(videos.store.reader("test", "whole").features(0)).float()[None]
    maps = head.standardizer.maps(maps) if head.standardizer else maps
    whole = overview(maps, **head.settings.overview())
    expected = pattern_vectors(maps, whole.cue, background=whole.background, **head.settings.kept())
    assert all(torch.equal(piece.cue, whole.cue) for piece in found)
    torch.testing.assert_close(torch.cat([piece.vectors for piece in found], dim=1), expected.vectors)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_last_window_sees_the_cue_of_the_whole_video(videos, options):
    head = untrained({"name": "gig"} | options)
    (*_, video), (*_, running) = (
        reduce_windows(videos.store, "test", "whole", head.settings, head.standardizer, cue)
        for cue in ("video", "running")
    )
    assert torch.equal(running.cue[-1], video.cue[0])
    torch.testing.assert_close(running.vectors[-1, 0], video.vectors[0, -1])


@pytest.mark.parametrize("options", [{"channel_attention": 4}, *OPTIONS], ids=str)
def test_relation_maps_are_those_that_scoring_chose_by(videos, options):
    head = untrained({"name": "gig"} | options)
    found = score_video(videos.store, "test", "whole", head, Scoring(cue="running"))
    windows = [WINDOWS_AT_ONCE + 3, 0, 7]
    relations = relation_maps(videos.store, "test", "whole", head, windows, "running")
    check_choice(relations, found.positions[windows], "whole")
    of_video = relation_maps(videos.store, "test", "whole", head, windows, "video")
    check_choice(of_video, score_video(videos.store, "test", "whole", head, Scoring()).positions[windows], "whole")
    assert (np.abs(relations - of_video).max() > 1e-3) == (options != {"cue_of": "segment"})


def test_maps_are_read_once_and_some_at_a_time(videos, monkeypatch):
    read = []

    def counted(reader, name, selection):
        values = original(reader, name, selection)
        if name == "features":
            read.append(values.shape[0])
        return values

    reader = type(videos.store.reader("test", "whole"))
    original = reader.read
    monkeypatch.setattr(reader, "read", counted)
    windows = score_video(videos.store, "test", "whole", untrained({"name": "gig"}), Scoring(cue="running")).windows
    assert sum(read) == len(windows)
    assert max(read) <= WINDOWS_AT_ONCE


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_smoothing_back_is_the_past_half_of_a_gaussian(sigma):
    scores = np.random.default_rng(1).random((40, 2))
    found, reach = smooth_back(scores, sigma), round(4 * sigma)
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    for row in range(40):
        past = scores[[max(0, row - back) for back in range(reach + 1)]]
        np.testing.assert_allclose(found[row], (weights[:, None] * past).sum(axis=0) / weights.sum(), rtol=1e-12)
    for rows in (1, 2, 17):
        np.testing.assert_array_equal(smooth_back(scores[:rows], sigma), found[:rows])


def test_a_sigma_of_zero_changes_nothing():
    scores = np.random.default_rng(1).random((5, 2))
    assert smooth_back(scores, 0) is scores


@pytest.mark.parametrize("name", ["rtfm", "mgfn", "bn_wvad", "ur_dmu", "pel4vad"])
def test_heads_that_see_other_windows_are_refused_by_name(nano, name):
    with pytest.raises(ValueError, match=f"running is not for the head {name}, .* use video"):
        Run.model_validate({"head": {"name": name}, "scoring": {"cue": "running"}})
    nano["scoring"] = {"cue": "running"}
    nano["runs"] = {"gig": {}, "other": {"head": {"name": name}}}
    with pytest.raises(ConfigError, match=rf"runs\.other: scoring\.cue: running is not for the head {name}"):
        parse_experiment(nano)
    nano["runs"]["other"]["scoring"] = {"cue": "video"}
    parse_experiment(nano)


def test_so_is_a_trained_head_that_the_configuration_does_not_name(videos, nano, tmp_path):
    settings = parse_head({"name": "rtfm"})
    module = make_head(settings, Training(), 2048, 2)
    with pytest.raises(PipelineError, match="running is not for the head rtfm"):
        score_video(
            videos.store, "test", "cut", TrainedHead(module.eval(), settings, None, ("a", "b")), Scoring(cue="running")
        )
    save_head(tmp_path / "head.safetensors", module, settings, None, ("a", "b"))
    experiment = parse_experiment(nano | {"scoring": {"cue": "running"}})
    with pytest.raises(PipelineError, match="running is not for the head rtfm"):
        score_files(experiment, "gig", tmp_path, [videos.whole], tmp_path / "scores")
    assert not (tmp_path / "scores" / "frames").exists()
