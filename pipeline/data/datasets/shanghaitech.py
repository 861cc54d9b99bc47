"""ShanghaiTech Campus in the weakly supervised split of Zhong et al. 2019: 437 videos, normal or anomalous.

SH_Train_new.txt has one `video,label` per line and SH_Test_NEW.txt one `video,label,frames` (-1 frames for anomalous
ones); label 1 is anomalous. The split mixes the original parts: some of the original test videos, which hold anomalies,
are for training, and some of the original, normal training videos for testing. Names tell the parts apart: `01_001`, a
video file, is of the original training part, and `01_0014`, a folder of images, of the test part. An anomalous test
video has a mask `<video>.npy` with one number per frame, 1 where it is anomalous; runs of 1 become half-open intervals
of the only class.

The layout is the official one: training/videos/01_001.avi, testing/frames/01_0014/,
testing/test_frame_mask/01_0014.npy. A video of the original training part may also be a folder of images,
training/frames/01_001/.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.config import ShanghaiTechDataset
from pipeline.data.datasets.listed import ListedInterval, ListedVideo, below, read_lines
from pipeline.data.datasets.video_files import video_files
from pipeline.data.decoding.image_folder import IMAGE_SUFFIXES
from pipeline.data.manifest import Interval
from pipeline.data.problems import Problems
from pipeline.remote import AnyPath, RemotePath

__all__ = ["PUBLISHED", "VERSION", "annotation_files", "read_intervals", "read_videos"]

VERSION = 1
PUBLISHED = True
FOLDERS = ("testing/frames", "training/videos", "training/frames")
ROW = re.compile(r"(?P<video_id>(?P<scene>\d\d)_(?P<number>\d{3,4})),(?P<label>[01])(?:,(?P<frames>-1|\d+))?")


def annotation_files(dataset: ShanghaiTechDataset) -> list[AnyPath]:
    """The files that labels and masks are read from."""
    masks = sorted((dataset.root / dataset.masks).glob("*.npy"))
    files = [dataset.root / dataset.train_list, dataset.root / dataset.test_list, *masks]
    return [*files, dataset.root / dataset.frame_counts] if dataset.frame_counts else files


def read_videos(dataset: ShanghaiTechDataset, problems: Problems) -> list[ListedVideo]:
    """The videos of the two lists. A video in the folders that neither lists is a problem."""
    found = {} if dataset.frame_counts else _found_videos(dataset, problems)
    videos, listed = [], set()
    for split, file in (("train", dataset.train_list), ("test", dataset.test_list)):
        for place, line in read_lines(dataset.root / file, problems):
            match = ROW.fullmatch(line)
            if not match or (split == "test") != (match["frames"] is not None):
                expected = "video,label" if split == "train" else "video,label,frames"
                problems.add(place, f"expected {expected} with a label of 0 or 1, got {line!r}")
                continue
            video_id, anomalous, of_test_part = match["video_id"], match["label"] == "1", len(match["number"]) == 4
            listed.add(video_id)
            if anomalous != of_test_part:
                part = "test" if of_test_part else "training"
                problems.add(place, f"{video_id}: its name is of the original {part} part, its label {match['label']}")
            if dataset.frame_counts:
                path = f"testing/frames/{video_id}" if of_test_part else f"training/videos/{video_id}.avi"
            elif video_id in found:
                path = found[video_id]
            else:
                problems.add(place, f"{video_id}: no such video in {', '.join(FOLDERS)} below {dataset.root}")
                continue
            stated = None if match["frames"] in (None, "-1") else int(match["frames"])
            if dataset.frame_counts and split == "test" and stated is None:
                stated = _mask_frames(dataset.root / dataset.masks / f"{video_id}.npy")
            labels = (dataset.classes[0],) if anomalous else ()
            videos.append(ListedVideo(place, video_id, path, split, labels, stated_frames=stated))
    for video_id in sorted(set(found) - listed):
        problems.add(str(dataset.root / found[video_id]), f"{video_id} is in neither list")
    return videos


def _found_videos(dataset: ShanghaiTechDataset, problems: Problems) -> dict[str, str]:
    """The videos in the folders: video id -> path relative to the root."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in video_files(dataset.root / folder, problems) if (dataset.root / folder).exists() else ():
            video_id = path.stem if path.is_file() else path.name
            found.setdefault(video_id, below(dataset.root, path))
    return found


def read_intervals(
    dataset: ShanghaiTechDataset, videos: Sequence[ListedVideo], problems: Problems, notes: list[str]
) -> list[ListedInterval]:
    """The runs of 1 in the masks of the anomalous test videos."""
    intervals = []
    for video in videos:
        if video.split != "test" or not video.labels:
            continue
        file = dataset.root / dataset.masks / f"{video.video_id}.npy"
        try:
            mask = _mask(file)
        except (OSError, ValueError) as error:
            problems.add(str(file), f"the mask of {video.video_id} ({video.place}) cannot be read: {error}")
            continue
        if mask.ndim != 1 or not np.isin(mask, (0, 1)).all():
            problems.add(str(file), f"expected one number per frame, 0 or 1, got {mask.dtype} of shape {mask.shape}")
            continue
        folder = dataset.root / video.path
        images = _images(folder) if folder.is_dir() else len(mask)
        if images != len(mask):
            problems.add(str(file), f"{video.video_id}: a mask of {len(mask)} frames for {images} images in {folder}")
        edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        intervals += [
            ListedInterval(str(file), Interval(video.video_id, video.labels[0], start, end))
            for start, end in edges.tolist()
        ]
    return intervals


def _images(folder: AnyPath) -> int:
    """The number of images in a folder."""
    return sum(image.suffix.lower() in IMAGE_SUFFIXES for image in folder.iterdir())


def _mask(file: AnyPath) -> np.ndarray:
    """A mask as it is stored. Raises OSError, ValueError, and StorageError where its storage fails."""
    if isinstance(file, RemotePath):
        with TemporaryDirectory() as folder:
            copy = Path(folder, "mask.npy")
            file.fetch(copy)
            return np.array(_mask(copy))
    return np.load(file, mmap_mode="r", allow_pickle=False)  # mapped: the file is as large as it declares


def _mask_frames(file: AnyPath) -> int | None:
    """The number of frames of a video by its mask; None where that cannot be read, which `read_intervals` reports."""
    try:
        return len(_mask(file))
    except (OSError, ValueError, TypeError):
        return None
