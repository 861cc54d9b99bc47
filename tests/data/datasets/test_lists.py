"""Lists of videos as people write them: every problem is reported before anything long begins, in one line."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from pipeline.config import CsvDataset
from pipeline.data.datasets import build, lengths, listing
from pipeline.data.datasets.video_files import video_files
from pipeline.data.decoding.decode import read_header
from pipeline.data.duplicates import same_content
from pipeline.data.partition import Division
from pipeline.data.problems import Problems
from pipeline.errors import ManifestError

NFC, NFD = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
ROWS = ("n1,n1.mp4,train,Normal,a", "f1,f1.mp4,train,Fight,b", "t0,t0.mp4,test,Normal,c", "t1,t1.mp4,test,Fight,d")


@pytest.fixture
def root(tmp_path, make_video, monkeypatch) -> Path:
    """Four videos and their two files in tmp_path/data; headers are read in this process, which is quicker."""
    monkeypatch.setattr(lengths, "read_headers", lambda paths, *others: [read_header(path) for path in paths])
    for row in ROWS:
        make_video(f"data/{row.split(',')[1]}", frames=8)
    root = tmp_path / "data"
    write(root, *ROWS)
    (root / "annotations.csv").write_text("video_id,label,start_frame,end_frame\nt1,Fight,2,5\n")
    return root


def write(root: Path, *rows: str) -> None:
    (root / "videos.csv").write_text("\n".join(["video_id,path,split,label,source", *rows]) + "\n", encoding="utf-8")


def change(root: Path, old: str, new: str, file: str = "videos.csv") -> None:
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new))


def section(root: Path, **settings) -> CsvDataset:
    data = {"adapter": "csv", "name": "mine", "root": root, "classes": ["Fight"], "annotations": "annotations.csv"}
    return CsvDataset(**data | settings)


def problems(root: Path, **settings) -> list[str]:
    divisions = settings.pop("divisions", ())
    with pytest.raises(ManifestError) as caught:
        build(section(root, **settings), divisions=divisions)
    return [line.strip().replace(f"{root}/", "") for line in str(caught.value).splitlines()[1:]]


def warnings(root: Path, **settings) -> list[str]:
    return [line.replace(f"{root}/", "") for line in build(section(root, **settings)).origin.warnings]


def test_the_list_is_sound(root):
    assert warnings(root) == []


class TestPaths:
    def test_paths_in_full_and_with_a_tilde_are_those_below_the_root(self, root, monkeypatch):
        expected = listing(section(root))
        monkeypatch.setenv("HOME", str(root.parent))
        change(root, "n1,n1.mp4", f"n1,{root}/n1.mp4")
        change(root, "f1,f1.mp4", "f1,~/data/f1.mp4")
        assert listing(section(root)) == expected
        assert warnings(root) == []

    def test_a_path_in_full_below_a_linked_root(self, root):
        (root.parent / "link").symlink_to(root)
        change(root, "n1,n1.mp4", f"n1,{root}/n1.mp4")
        assert build(section(root.parent / "link")).video("n1").path == "n1.mp4"

    @pytest.mark.parametrize("path", ["/elsewhere/n1.mp4", "~/n1.mp4", "../n1.mp4", ""])
    def test_no_other_path_leaves_the_root(self, root, path):
        change(root, "n1,n1.mp4", f"n1,{path}")
        assert [line for line in problems(root) if "path: expected one below the root" in line]

    @pytest.mark.parametrize(
        ("written", "hint"),
        [
            (".\\n1.mp4", "no such file; folders are separated by '/': write './n1.mp4'"),
            ("C:\\videos\\n1.mp4", "a path of Windows is none here"),
            ("N1.MP4", "no such file; did you mean 'n1.mp4'?"),
            ("n7.mp4", "n7.mp4: no such file"),
        ],
    )
    def test_a_missing_file_is_named_with_what_is_there(self, root, written, hint):
        change(root, "n1,n1.mp4", f"n1,{written}")
        (line,) = problems(root)
        assert line.endswith(hint)

    @pytest.mark.parametrize(("listed", "there"), [(NFC, NFD), (NFD, NFC)])
    def test_a_name_in_another_unicode_form(self, root, listed, there):
        os.rename(root / "n1.mp4", root / f"{there}.mp4")
        change(root, "n1,n1.mp4", f"n1,{listed}.mp4")
        (line,) = problems(root)
        assert f"'{there}.mp4' looks the same and is there, in another Unicode form" in line


class TestIds:
    def test_ids_that_look_the_same(self, root, make_video):
        make_video("data/x.mp4")
        write(root, *ROWS[1:], f"{NFC},n1.mp4,train,Normal,a", f"{NFD},x.mp4,train,Normal,a")
        (line,) = problems(root)
        assert "looks the same as that of videos.csv, row 5, and is another in Unicode" in line

    @pytest.mark.parametrize(
        ("listed", "annotated", "hint"),
        [
            (NFC, NFD, "a name that looks the same has another Unicode form"),
            ("t1", "T1", "did you mean 't1'?"),
            ("t1", "t1.mp4", "did you mean 't1'?"),
        ],
    )
    def test_an_annotation_of_another_spelling(self, root, listed, annotated, hint):
        change(root, "t1,t1.mp4", f"{listed},t1.mp4")
        change(root, "t1,", f"{annotated},", "annotations.csv")
        assert any(hint in line for line in problems(root) if line.startswith("annotations.csv, row 2"))


class TestLabels:
    def test_other_capitals_are_one_line_for_each_label(self, root, make_video):
        make_video("data/n2.mp4")
        write(
            root,
            *(row.replace("Fight", "fight").replace("Normal", "NORMAL") for row in (*ROWS, "n2,n2.mp4,train,Normal,a")),
        )
        change(root, "Fight", "FIGHT", "annotations.csv")
        assert problems(root) == [
            "videos.csv, row 2 and 2 more: unknown label 'NORMAL'; did you mean 'Normal'?",
            "videos.csv, row 3 and 1 more: unknown label 'fight'; did you mean 'Fight'?",
            "annotations.csv, row 2: unknown label 'FIGHT'; did you mean 'Fight'?",
        ]

    @pytest.mark.parametrize(
        ("cells", "expected"),
        [
            ("train,Fight,Fire", "row 3: source is 'Fire', the class Fire: several labels are separated by ';'"),
            ('train,"Fight,Fire",b', "row 3: unknown label 'Fight,Fire'; several labels are separated by ';'"),
            ("train,Fight,Fire,b", "row 3: 6 cells for 5 columns, 'b' has none; a cell with a comma in it"),
            ("one,train,Fight,b", "row 3: 6 cells for 5 columns"),
            ("one,train,Fight", "row 3: the cells are not in their columns, split is 'one'; a cell with a comma"),
        ],
    )
    def test_a_comma_where_none_belongs(self, root, cells, expected):
        change(root, "train,Fight,b", cells)
        assert any(expected in line for line in problems(root, classes=["Fight", "Fire"]))


class TestSplits:
    def test_a_source_in_both_splits(self, root):
        change(root, "Normal,c", "Normal,b")
        change(root, "Fight,d", "Fight,b")
        (line,) = problems(root)
        assert line.startswith(
            "videos.csv, row 4 and 1 more: source 'b' is in both splits, in train at videos.csv, row 3: "
        )

    def test_a_class_without_a_video(self, root):
        (line,) = problems(root, classes=["Fire", "Fight", "Fall"])
        assert line.startswith("classes: no video is labelled Fire, Fall;")

    def test_a_class_without_a_training_video_is_a_warning(self, root):
        change(root, "test,Fight", "test,Fire")
        change(root, "Fight", "Fire", "annotations.csv")
        assert warnings(root, classes=["Fight", "Fire"]) == [
            "classes: no training video is labelled Fire: their scores mean nothing"
        ]

    def test_a_validation_split_that_cannot_be_made_is_listed_with_the_rest(self, root):
        (line,) = problems(root, divisions=[Division(0.2), Division(0.2)])
        assert line.startswith(
            "selection: no anomalous video would be left for validation: 2 training videos of 2 source(s)"
        )
        change(root, "n1,n1.mp4", "n1,gone.mp4")
        assert len(problems(root, divisions=[Division(0.2)])) == 2


class TestSameContent:
    def test_it_is_told_with_splits_and_labels(self, root):
        for name in ("f1", "t1"):
            (root / f"{name}.mp4").write_bytes((root / "n1.mp4").read_bytes())
        assert warnings(root) == [
            "videos.csv, row 2: the same content under several names: n1, f1 (train) and t1 (test): "
            "the test shows what was trained on; their labels differ"
        ]

    def test_files_of_one_size_are_told_apart_by_any_byte(self, tmp_path):
        content = bytearray(300_000)
        paths = []
        for number, at in enumerate((0, 150_000, 299_999, None, None)):
            changed = content.copy()
            if at is not None:
                changed[at] = 1
            paths.append(tmp_path / str(number))
            paths[-1].write_bytes(changed)
        assert same_content(paths, [300_000] * 5) == [[3, 4]]

    def test_folders_of_images_count_by_what_is_in_them(self, tmp_path):
        for name, images in {"a": "xy", "b": "xy", "c": "yx"}.items():
            (tmp_path / name).mkdir()
            for number, image in enumerate(images):
                (tmp_path / name / f"{number}.jpg").write_text(image)
        assert same_content([tmp_path / name for name in "abc"], [2, 2, 2]) == [[0, 1]]

    def test_empty_and_unreadable_files_have_no_part(self, tmp_path):
        (tmp_path / "empty").touch()
        assert (
            same_content([tmp_path / "empty", tmp_path / "empty", tmp_path / "gone", tmp_path / "gone"], [0, 0, 5, 5])
            == []
        )


class TestFolders:
    def test_links_in_a_circle_end(self, tmp_path):
        top = tmp_path / "data"
        for folder in ("a", "b"):
            (top / folder).mkdir(parents=True)
            (top / folder / f"{folder}.mp4").touch()
        for link, target in {"a/self": "a", "a/up": ".", "a/top": "..", "a/b": "b", "b/a": "a"}.items():
            (top / link).symlink_to(top / target)
        found = Problems()
        videos = video_files(top, found)
        assert {path.name for path in videos} == {"a.mp4", "b.mp4"}
        assert len(videos) <= 4
        assert found.lines == []

    def test_folders_nested_without_end_are_a_problem(self, tmp_path):
        (tmp_path / "/".join("d" * 70)).mkdir(parents=True)
        found = Problems()
        assert video_files(tmp_path, found) == []
        (problem,) = found.lines
        assert "nested at most 64 deep" in problem

    def test_a_folder_that_is_not_there_is_a_problem(self, tmp_path):
        found = Problems()
        assert video_files(tmp_path / "train", found) == []
        assert found.lines == [f"{tmp_path}/train: the folder cannot be read: No such file or directory"]

    def test_a_root_that_is_not_there_is_the_only_problem(self, tmp_path):
        with pytest.raises(ManifestError) as caught:
            build(section(tmp_path / "nowhere"))
        assert f"dataset.root: no such folder: {tmp_path}/nowhere" in str(caught.value)
        assert str(caught.value).startswith("1 problem(s)")
