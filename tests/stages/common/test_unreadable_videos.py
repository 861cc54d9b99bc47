"""Videos that cannot be read are named before the long work, and so is what cannot be done without them."""

from __future__ import annotations

import pytest

from pipeline.config import parse_experiment
from pipeline.stages.common.manifest import check_data_set


@pytest.fixture
def said(nano, make_video, tmp_path):
    """What is said of a data set of two videos of each label for training and one for the test."""

    def check(empty: set[str]) -> list[str]:
        (tmp_path / "v").mkdir()
        rows = ["video_id,path,split,label"]
        for split, label, name in [
            *(("train", label, f"{label[0]}{number}") for label in ("Fighting", "Normal") for number in range(2)),
            ("test", "Fighting", "T"),
        ]:
            rows.append(f"{name},v/{name}.mp4,{split},{label}")
            if name in empty:
                (tmp_path / "v" / f"{name}.mp4").write_bytes(b"")
            else:
                make_video(f"v/{name}.mp4", frames=4)
        (tmp_path / "videos.csv").write_text("\n".join(rows))
        dataset = {"adapter": "csv", "name": "d", "root": str(tmp_path), "classes": ["Fighting"]}
        changes = {
            "dataset": dataset | {"whole_video_anomalous": True},
            "selection": {"validation_share": 0.5},
            "machine": {"device": "cpu", "decode_workers": 1},
        }
        lines: list[str] = []
        check_data_set(parse_experiment(nano | changes), tmp_path / "var", say=lines.append)
        return lines

    return check


def test_each_is_named_with_its_path(said, tmp_path):
    (line,) = said({"T"})[:1]
    assert line == f"warning: 1 of 5 videos cannot be read: T ({tmp_path / 'v' / 'T.mp4'})"


@pytest.mark.parametrize(
    ("empty", "missing"),
    [
        ({"T"}, "split: no test video"),
        ({"F0", "F1"}, "split: no anomalous training video"),
        ({"F1"}, "selection: no anomalous video would be left for validation: 3 training videos of 3 source(s)"),
    ],
)
def test_what_cannot_be_done_without_them_is_said(said, empty, missing):
    assert said(empty)[1].startswith(f"warning: without the videos that cannot be read: {missing}")


def test_nothing_is_said_where_all_can_be_read(said):
    assert said(set()) == []
