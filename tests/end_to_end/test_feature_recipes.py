"""docs/recipes.md as printed, on small files of the published names, folders and shapes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import luigi
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from luigi.task_register import Register
from places import ROOT

from cache import FeatureStore
from pipeline.cli.main import main
from tasks import EvaluateAll

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+?, [^\n]+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
CLIP = 16
QUICK = {"epochs": 1, "batch_bags": 4, "learning_rate": 1e-3}
"""Instead of the published trainings, which take thousands of steps."""

UCF = {  # frames, which differ from whole clips; events are the second half of a video
    "Abuse001_x264": ("train", 100),
    "Vandalism001_x264": ("train", 90),
    "Normal_Videos001_x264": ("train", 95),
    "Normal_Videos002_x264": ("train", 64),
    "Abuse028_x264": ("test", 100),
    "Vandalism017_x264": ("test", 96),
    "Normal_Videos_003_x264": ("test", 70),
}
XD = {
    "A.Beautiful.Mind.2001__#00-01-45_00-02-50_label_A": ("train", 80),
    "v=8cTqh9tMz_I__#1_label_A": ("train", 96),
    "Bad.Boys.1995__#00-26-51_00-27-53_label_B2-0-0": ("train", 100),
    "Bad.Boys.II.2003__#00-27-29_00-30-13_label_B6-B2-0": ("train", 64),
    "Bad.Boys.1995__#01-11-55_01-12-40_label_G-B2-B6": ("test", 128),
    "v=S-7rRLrxnVQ__#1_label_B4-0-0": ("test", 99),
    "v=vFPQ_NiDBIU__#00-42-00_00-48-00_label_A": ("test", 90),
}
SHT = {
    "01_0014": ("train", 100),
    "13_0007": ("train", 64),
    "01_002": ("train", 90),
    "13_003": ("train", 80),
    "01_0015": ("test", 97),
    "12_0142": ("test", 128),
    "01_001": ("test", 76),
}


def features(name: str, frames: int, channels: int, crops: int, *, floor: bool = True) -> np.ndarray:
    """(T, crops, D) float16; anomalous videos light up some channels in their second half."""
    clips = frames // CLIP if floor else -(-frames // CLIP)
    values = np.random.default_rng(sum(name.encode())).random((clips, crops, channels)) * 0.2
    if is_anomalous(name):
        values[clips // 2 :, :, : channels // 4] += 1
    return values.astype(np.float16)


def is_anomalous(name: str) -> bool:
    return "Normal" not in name and "_label_A" not in name and not re.fullmatch(r"\d\d_\d{3}", name)


def put(file: Path, values: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, values)


def put_crops(folder: Path, name: str, values: np.ndarray, between: str = "__") -> None:
    """One file per crop, (T, D)."""
    for crop in range(values.shape[1]):
        put(folder / f"{name}{between}{crop}.npy", values[:, crop])


def of_split(videos: dict[str, tuple[str, int]], split: str) -> Iterator[tuple[str, int]]:
    return ((name, frames) for name, (own, frames) in videos.items() if own == split)


def ucf_lists(root: Path) -> None:
    root.mkdir(parents=True)
    folders = {"Normal": "Training_Normal_Videos_Anomaly"}
    lines = []
    for name, _ in of_split(UCF, "train"):
        label = re.match(r"[A-Za-z]+?(?=_|\d)", name)[0]
        lines.append(f"{folders.get(label, label)}/{name}.mp4")
    (root / "Anomaly_Train.txt").write_text("\n".join(lines))
    (root / "Temporal_Anomaly_Annotation.txt").write_text(
        "Abuse028_x264.mp4  Abuse  48  99  -1  -1  \nVandalism017_x264.mp4  Vandalism  48  60  70  95  \n"
        "Normal_Videos_003_x264.mp4  Normal  -1  -1  -1  -1  \n"
    )


def ucf_i3d(root: Path) -> None:
    ucf_lists(root / "ucf_crime")
    for split, folder in (("train", "UCF_Train_ten_crop_i3d"), ("test", "UCF_Test_ten_crop_i3d")):
        for name, frames in of_split(UCF, split):
            put(root / "ucf_crime" / folder / f"{name}_i3d.npy", features(name, frames, 2048, 10))


def ucf_clip(root: Path) -> None:
    ucf_lists(root / "ucf_crime")
    for name, (split, frames) in UCF.items():
        label = f"{split.title()}ing_Normal_Videos_Anomaly" if "Normal" in name else re.match("[A-Za-z]+", name)[0]
        folder = root / "ucf_crime" / "UCFClipFeatures" / label
        put_crops(folder, name, features(name, frames, 512, 10))


def xd_lists(root: Path) -> None:
    root.mkdir(parents=True)
    first, second = "Bad.Boys.1995__#01-11-55_01-12-40_label_G-B2-B6", "v=S-7rRLrxnVQ__#1_label_B4-0-0"
    # The second interval begins after the last clip, which frames 0 to 95 of 99 are.
    (root / "annotations.txt").write_text(f"{first} 56 80 85 127\n{second} 48 90 97 98\n")
    (root / "annotations_multiclasses.txt").write_text(
        f"{first} G 56 80 B2 85 100 B6 95 127\n{second} B4 48 90 B4 97 98\n"
    )


def xd_i3d(root: Path) -> None:
    xd_lists(root / "xd_violence")
    for name, (split, frames) in XD.items():
        folder = root / "xd_violence" / ("RGB" if split == "train" else "RGBTest")
        put_crops(folder, name, features(name, frames - 1, 1024, 5))


def xd_clip(root: Path) -> None:
    xd_lists(root / "xd_violence")
    for name, (split, frames) in XD.items():
        values = features(name, frames, 512, 5)
        put_crops(
            root / "xd_violence" / f"XD{split.title()}ClipFeatures", name, values if split == "train" else values[:, :1]
        )


def shanghaitech_lists(root: Path) -> None:
    for name, frames in of_split(SHT, "test"):
        if is_anomalous(name):
            mask = np.zeros(frames, np.int64)
            mask[frames // 2 :] = 1
            put(root / "testing" / "test_frame_mask" / f"{name}.npy", mask)
    train, test = of_split(SHT, "train"), of_split(SHT, "test")
    (root / "SH_Train_new.txt").write_text("".join(f"{name},{int(is_anomalous(name))}\n" for name, _ in train))
    rows = ((name, int(is_anomalous(name)), -1 if is_anomalous(name) else frames) for name, frames in test)
    (root / "SH_Test_NEW.txt").write_text("".join(f"{name},{label},{frames}\n" for name, label, frames in rows))


def shanghaitech_rtfm(root: Path) -> None:
    shanghaitech_lists(root / "shanghaitech")
    for name, (split, frames) in SHT.items():
        folder = root / "shanghaitech" / f"SH_{split.title()}_ten_crop_i3d"
        put(folder / f"{name}_i3d.npy", features(name, frames, 2048, 10, floor=False))


def shanghaitech_pel(root: Path) -> None:
    shanghaitech_lists(root / "shanghaitech")
    for name, (split, frames) in SHT.items():
        put_crops(root / "shanghaitech" / split, name, features(name, frames, 1024, 10), "_")


RECIPES = {
    "UCF-Crime, I3D features of RTFM": (ucf_i3d, "auc", 10, 256),
    "UCF-Crime, CLIP features of VadCLIP": (ucf_clip, "auc", 10, 256),
    "XD-Violence, I3D features of its authors": (xd_i3d, "ap", 5, 288),
    "XD-Violence, CLIP features of VadCLIP": (xd_clip, "ap", 1, 304),
    "ShanghaiTech, I3D features of RTFM": (shanghaitech_rtfm, "auc", 10, 301),
    "ShanghaiTech, I3D features of PEL4VAD": (shanghaitech_pel, "auc", 10, 288),
}
"""By section: what writes its files, the official metric, the crops of a test video, and the frames with a score."""

OWN = "Your own data, with features of any network"
TRAINED = [
    section
    for section in RECIPES
    if section not in ("XD-Violence, CLIP features of VadCLIP", "ShanghaiTech, I3D features of RTFM")
]
"""The others have the same commands after their import, and heads and channels of one of these."""


def blocks(section: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)
    return [line for name, text in found if name == language for line in text.splitlines() if line.strip()]


def text_blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)


def copy_configs(commands: Iterable[str]) -> None:
    """The configurations that commands name, with quick trainings, in the working folder."""
    for path in {words[words.index("--config") + 1] for line in commands if "--config" in (words := shlex.split(line))}:
        data = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
        for run in data["runs"].values():
            assert run["training"] == "paper"
            run["training"] = QUICK
        data["evaluation"] = {"resamples": 20}
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(yaml.safe_dump(data))


def run(line: str) -> str:
    program, *words = shlex.split(line)
    if program == "luigi":
        assert words[:3] == ["--module", "tasks", "EvaluateAll"]
        Register.clear_instance_cache()  # tasks of another test with the same relative path
        assert luigi.build([EvaluateAll(config=words[-1])], local_scheduler=True, log_level="ERROR"), line
        return ""
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return result.output


def test_every_recipe_is_tried():
    assert {*RECIPES, OWN} == set(SECTIONS)


@pytest.mark.parametrize("section", RECIPES)
def test_the_features_are_imported_as_the_page_says(section, tmp_path, monkeypatch):
    """All but training, with the configuration as it is shipped."""
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    write, _, crops, _ = RECIPES[section]
    write(tmp_path / "data")
    assert [name for name in blocks(section, "text") if not Path(name).is_file()] == []
    commands = [line for line in blocks(section, "") if line.startswith(("gig cache", "gig manifest"))]
    said = "".join(run(line) for line in commands)
    store = FeatureStore.open("var/cache")
    train, test = store.namespaces()[1], store.namespaces()[0]
    assert (train.endswith("-train"), test.endswith("-test")) == (True, True)
    segments = int(re.search(r"--segments (\d+)", SECTIONS[section])[1])
    shapes = {store.reader(train, video).shape[1:4] for video in store.video_ids(train)}
    assert (len(store.video_ids(train)), shapes) == (4, {(segments, 1, 1)})
    assert {store.reader(test, video).shape[0] for video in store.video_ids(test)} == {crops}
    assert len(store.video_ids(test)) == 3
    assert "have no features here" not in said
    assert "cannot be read" not in said


@pytest.mark.slow
@pytest.mark.parametrize("section", TRAINED)
def test_a_recipe_runs_to_its_metrics(section, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, metric, _, frames = RECIPES[section]
    write(tmp_path / "data")
    commands = blocks(section, "")
    copy_configs(commands)
    said = [run(line) for line in commands]
    found = [json.loads(file.read_text()) for file in Path("var").glob("*/evaluation-*/metrics.json")]
    assert [metrics["frames"] for metrics in found] == [frames] * 3
    assert all(0 <= metrics[metric] <= 1 for metrics in found)
    assert metric in said[-1].lower()


@pytest.mark.slow
def test_features_of_ones_own_run_to_their_metrics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    videos, annotations = text_blocks(OWN, "csv")
    for number, row in enumerate(videos.splitlines()[1:]):
        video_id, _, label, frames, _ = row.split(",")
        values = np.random.default_rng(number).random((int(frames) // CLIP, 64)).astype(np.float32) * 0.2
        values[int(frames) // CLIP // 2 :, :16] += label == "Fighting"
        put(Path("data/mine/features") / f"{video_id}_feat.npy", values)
    Path("data/mine/videos.csv").write_text(videos)
    Path("data/mine/annotations.csv").write_text(annotations)
    assert all(Path(name).is_file() for name in blocks(OWN, "text"))
    Path("configs").mkdir()
    data = yaml.safe_load(text_blocks(OWN, "yaml")[0])
    Path("configs/mine.yaml").write_text(yaml.safe_dump(data | {"training": QUICK, "evaluation": {"resamples": 20}}))
    said = [run(line) for line in blocks(OWN, "")]
    assert "2 videos, 496 frames, backbone mine-test" in said[-1]
    result = CliRunner().invoke(main, ["explain", "v003", "--config", "configs/mine.yaml"])
    assert "v003: expected a video to take pictures from; dataset.frame_counts stands for those" in result.stderr
    assert "STAND-IN" not in result.stderr
