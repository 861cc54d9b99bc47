"""Score files of other systems: every form gives the scores that were written; what has no form is named."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pytest
from scipy.io import savemat

from pipeline.errors import LengthMismatch, PipelineError
from pipeline.stages.scoring.submission import export_submission
from pipeline.stages.scoring.tables import ScoreForm, ScoreTables, end_with_videos, read_tables

CLASSES = ("Fight", "Fire")
LENGTHS = {"a": 40, "b": 33, "c": 5}
ORDER = ("b", "a", "c")


def scores(lengths: dict[str, int] = LENGTHS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {video_id: rng.random(n).round(3) for video_id, n in lengths.items()}


def write(folder: Path, form: str) -> tuple[Path, ScoreForm]:
    """The scores in a form, and how it is to be read."""
    folder.mkdir()
    own, joined = scores(), np.concatenate([scores()[video_id] for video_id in ORDER])
    (folder.parent / "order.txt").write_text("".join(f"Videos/{video_id}.mp4\n" for video_id in ORDER))
    order = folder.parent / "order.txt"
    crops = np.linspace(-0.1, 0.1, 10)  # of mean 0
    if form in ("row", "column", "suffix", "crops", "crops first"):
        shape = {"row": (1, -1), "column": (-1, 1)}.get(form, (-1,))
        for video_id, values in own.items():
            array = values[:, None] + crops if form.startswith("crops") else values.reshape(shape)
            np.save(
                folder / f"{video_id}{'_pred' if form == 'suffix' else ''}.npy",
                array.T if form == "crops first" else array,
            )
        return folder, ScoreForm(
            suffix="_pred" if form == "suffix" else "", crops="mean" if form.startswith("crops") else None
        )
    if form == "npz each":
        for video_id, values in own.items():
            np.savez(folder / f"{video_id}.npz", scores=values, labels=values > 0.5, name=np.array(video_id))
        return folder, ScoreForm(array="scores")
    if form == "mat each":
        for video_id, values in own.items():
            savemat(folder / f"{video_id}.mat", {"scores": values, "name": video_id})
        return folder, ScoreForm()
    if form == "mat 7.3":
        for video_id, values in own.items():
            with h5py.File(folder / f"{video_id}.mat", "w", userblock_size=512) as file:
                file["scores"] = values[:, None]  # MATLAB's (1, n)
        return folder, ScoreForm()
    if form == "npz of all":
        np.savez(folder / "all.npz", **{f"{video_id}_pred": values for video_id, values in own.items()})
        return folder / "all.npz", ScoreForm(suffix="_pred")
    if form == "mat of all":
        savemat(folder / "all.mat", own)
        return folder / "all.mat", ScoreForm()
    if form == "csv of all":
        ids = np.repeat(ORDER, [LENGTHS[video_id] for video_id in ORDER])
        pc.write_csv(pa.table({"video_id": ids, "score": joined}), folder / "all.csv")
        return folder / "all.csv", ScoreForm()
    np.save(folder / "all.npy", joined.reshape(1, -1) if form == "joined row" else joined)
    return folder / "all.npy", ScoreForm(order=order)


@pytest.mark.parametrize(
    "form",
    [
        "row",
        "column",
        "suffix",
        "crops",
        "crops first",
        "npz each",
        "mat each",
        "mat 7.3",
        "npz of all",
        "mat of all",
        "csv of all",
    ]
    + ["joined", "joined row"],
)
def test_every_form_gives_the_scores_that_were_written(tmp_path, form):
    source, how = write(tmp_path / "s", form)
    tables = read_tables(source, CLASSES, LENGTHS, how)
    assert set(tables.general) == set(LENGTHS)
    for video_id, values in scores().items():
        np.testing.assert_allclose(tables.general[video_id], values, atol=1e-9)
    assert tables.classwise is None


def test_class_scores_one_after_the_other(tmp_path):
    table = np.random.default_rng(0).random((sum(LENGTHS.values()), 2))
    np.save(tmp_path / "all.npy", table)
    (tmp_path / "order.txt").write_text("\n".join(ORDER))
    tables = read_tables(tmp_path / "all.npy", CLASSES, LENGTHS, ScoreForm(order=tmp_path / "order.txt"))
    np.testing.assert_array_equal(tables.classwise["a"], table[33:73])
    np.testing.assert_array_equal(tables.general["b"], table[:33].max(axis=1))


class TestLengths:
    @pytest.mark.parametrize(
        ("count", "kept", "note"), [(32, 32, "a: 32 scores, 40 frames"), (48, 40, "a: 48 scores"), (40, 40, "")]
    )
    def test_scores_of_whole_clips_end_before_the_video_or_go_beyond_it(self, tmp_path, count, kept, note):
        np.save(tmp_path / "a.npy", np.arange(count))
        tables = read_tables(tmp_path, CLASSES, {"a": 40}, ScoreForm(clip_frames=16))
        assert tables.general["a"].tolist() == list(range(kept))
        assert tables.video_frames == {"a": 40}
        assert note in "".join(tables.notes)
        assert bool(note) == bool(tables.notes)

    def test_another_length_is_an_error_that_names_those_that_fit(self):
        with pytest.raises(
            LengthMismatch, match="a: 16 scores for 40 frames; whole clips of 16 frames need 32 or 40 or 48"
        ):
            ScoreForm(clip_frames=16).to_frames("a", np.zeros(16), 40)

    def test_equal_parts_by_proportion(self):
        found = ScoreForm(equal_parts=True).to_frames("a", np.arange(4.0), 10)
        assert found.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
        assert ScoreForm(equal_parts=True).to_frames("a", np.arange(4.0), 2).tolist() == [0.5, 2.5]

    @pytest.mark.parametrize("filled_up", [False, True])
    def test_joined_scores_of_whole_clips(self, tmp_path, filled_up):
        counts = {"a": 48, "b": 48, "c": 16} if filled_up else {"a": 32, "b": 32, "c": 16}
        values = scores(counts)
        np.save(tmp_path / "all.npy", np.concatenate([values[video_id] for video_id in ORDER]))
        (tmp_path / "order.txt").write_text("\n".join(ORDER))
        form = ScoreForm(clip_frames=16, order=tmp_path / "order.txt")
        tables = read_tables(tmp_path / "all.npy", CLASSES, LENGTHS, form)
        for video_id, frames in LENGTHS.items():
            np.testing.assert_array_equal(tables.general[video_id], values[video_id][:frames])

    def test_joined_scores_of_32_parts_a_video(self, tmp_path):
        np.save(tmp_path / "all.npy", np.arange(96.0))
        (tmp_path / "order.txt").write_text("\n".join(ORDER))
        form = ScoreForm(equal_parts=True, order=tmp_path / "order.txt")
        tables = read_tables(tmp_path / "all.npy", CLASSES, LENGTHS, form)
        assert (tables.general["b"][0], tables.general["a"][-1]) == (0, 63)

    def test_a_total_that_does_not_fit_names_both(self, tmp_path):
        np.save(tmp_path / "all.npy", np.zeros(77))
        (tmp_path / "order.txt").write_text("\n".join(ORDER))
        with pytest.raises(
            LengthMismatch, match="77 scores for the 3 videos of order.txt with 78 frames; they need 78"
        ):
            read_tables(tmp_path / "all.npy", CLASSES, LENGTHS, ScoreForm(order=tmp_path / "order.txt"))
        with pytest.raises(LengthMismatch, match="they need 80 or 112 or 78"):
            read_tables(tmp_path / "all.npy", CLASSES, LENGTHS, ScoreForm(clip_frames=16, order=tmp_path / "order.txt"))

    def test_one_way_of_counting_at_a_time(self):
        with pytest.raises(PipelineError, match="give one of the three"):
            ScoreForm(stride=16, clip_frames=16)


class TestRefused:
    def test_what_is_not_read_is_named_with_the_forms_that_are(self, tmp_path):
        source, form = write(tmp_path / "s", "row")
        (source / "a.npy").rename(source / "a.pkl")
        with pytest.raises(
            PipelineError, match=r"(?s)a: no score table.*not read: a.pkl; expected a folder with one file per video"
        ):
            read_tables(source, CLASSES, LENGTHS, form)
        np.save(source / "a.npy", scores()["a"])
        assert read_tables(source, CLASSES, LENGTHS, form).notes == ("s: not read: a.pkl",)

    def test_files_without_the_suffix_are_said_to_be_left_aside(self, tmp_path):
        source, form = write(tmp_path / "s", "suffix")
        np.save(source / "a_gt.npy", np.zeros(40))
        assert read_tables(source, CLASSES, LENGTHS, form).notes == ("s: not read: a_gt.npy",)
        np.save(source / "d_pred.npy", np.zeros(40))
        with pytest.raises(PipelineError, match="d_pred.npy: a score table of a video that is not in the test split"):
            read_tables(source, CLASSES, LENGTHS, form)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((40, 10)), r"a: .*expected shape .*--crops mean .* n of 40, got \(40, 10\)"),
            (np.zeros((40, 2, 1)), r"got \(40, 2, 1\)"),
            (np.array(["high"] * 40), "expected numbers"),
            (np.zeros((2, 40)), r"got \(2, 40\)"),
        ],
    )
    def test_shapes_that_would_have_to_be_guessed(self, tmp_path, array, message):
        source, form = write(tmp_path / "s", "row")
        np.save(source / "a.npy", array)
        with pytest.raises(PipelineError, match=message):
            read_tables(source, CLASSES, LENGTHS, form)

    def test_crops_of_which_either_axis_may_be_the_frames(self, tmp_path):
        np.save(tmp_path / "v.npy", np.zeros((10, 10)))
        with pytest.raises(PipelineError, match=r"got \(10, 10\)"):
            read_tables(tmp_path, CLASSES, {"v": 10}, ScoreForm(crops="mean"))

    @pytest.mark.parametrize(
        ("name", "message"),
        [("all.npy", "needs their order"), ("all.pkl", "expected a folder with"), ("none", "no such folder or file")],
    )
    def test_one_file(self, tmp_path, name, message):
        if name != "none":
            np.save(tmp_path / "all.npy", np.zeros(78))
            (tmp_path / "all.npy").rename(tmp_path / name)
        with pytest.raises(PipelineError, match=message):
            read_tables(tmp_path / name, CLASSES, LENGTHS)

    def test_several_arrays_and_other_videos(self, tmp_path):
        source, _ = write(tmp_path / "s", "npz each")
        with pytest.raises(PipelineError, match="a: .*expected one array of scores, got labels, scores: name it"):
            read_tables(source, CLASSES, LENGTHS)
        source, form = write(tmp_path / "t", "npz of all")
        with pytest.raises(
            PipelineError, match=r"(?s)d: no array of scores.*c: an array of a video that is not in the test split"
        ):
            read_tables(source, CLASSES, {"a": 40, "b": 33, "d": 5}, form)
        source, form = write(tmp_path / "u", "joined")
        with pytest.raises(
            PipelineError, match=r"(?s)order.txt.*d: no scores.*c: scores of a video that is not in the test split"
        ):
            read_tables(source, CLASSES, {"a": 40, "b": 33, "d": 5}, form)

    @pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mat"])
    def test_damaged_files(self, tmp_path, name):
        source, _ = write(tmp_path / "s", "row")
        (source / "a.npy").unlink()
        (source / name).write_bytes(b"no array at all, but quite a number of bytes" * 9)
        with pytest.raises(PipelineError, match=f"a: .*{name} cannot be read"):
            read_tables(source, CLASSES, LENGTHS)


def test_tables_of_clips_end_with_the_videos():
    tables = ScoreTables({v: np.arange(4.0) for v in "abc"}, {v: np.ones((4, 2)) for v in "abc"})
    within = end_with_videos(tables, {"a": 6, "b": 3, "c": 0})
    assert [within.general[v].tolist() for v in "abc"] == [[0, 1, 2, 3], [0, 1, 2], [0, 1, 2, 3]]
    assert within.classwise["b"].shape == (3, 2)
    assert within.video_frames == {"a": 6, "b": 3, "c": 4}
    short, beyond = within.notes
    assert "have no score and are in no metric, in 1 video(s): a: 4 scores, 6 frames" in short
    assert "left out, in 1 video(s): b: 4 scores, 3 frames" in beyond
    assert end_with_videos(tables, dict.fromkeys("abc", 4)).notes == ()


def test_a_submission_of_another_system(tmp_path):
    np.save(tmp_path / "v_pred.npy", np.array([[0.6, 0.1], [0.2, 0.9]]))
    form = ScoreForm(suffix="_pred", stride=2, tail="repeat")
    with pytest.raises(PipelineError, match="--truth"):
        export_submission(tmp_path, tmp_path / "out", 0.5)
    _, second = export_submission(tmp_path, tmp_path / "out", 0.5, CLASSES, {"v": 5}, form)
    assert second.read_text().split()[1:] == ["v,Fight,0,2,0.600000", "v,Fire,2,5,0.900000"]
