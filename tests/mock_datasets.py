"""Mocks of the published data sets: tiny videos and annotation files with official names, folders and formats."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

FRAMES = 24


def write_video(path: Path, frames: int = FRAMES) -> None:
    """An MPEG-4 video whose brightness follows the frame number; any container by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = path.name  # equal pictures, but not the same content
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for index in range(frames):
            image = np.full((64, 64, 3), 10 + 15 * (index % 16), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def write_images(folder: Path, frames: int = FRAMES) -> None:
    """A folder of images, 000.jpg, 001.jpg and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(frames):
        with av.open(str(folder / f"{index:03d}.jpg"), "w", format="image2", options={"update": "1"}) as container:
            stream = container.add_stream("mjpeg", rate=1)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(
                        np.full((64, 64, 3), index * 5 + int(folder.name[-1]), np.uint8), format="rgb24"
                    )
                )
            )
            container.mux(stream.encode(None))


def put(root: Path, *names: str) -> None:
    """Tiny videos of the same pictures."""
    for name in names:
        write_video(root / name)


def ucf_crime(root: Path) -> dict:
    """UCF-Crime: two classes, unpacked archives, and annotations with double blanks, tabs and an end past the video."""
    put(
        root,
        "Anomaly-Videos-Part-1/Abuse/Abuse001_x264.mp4",
        "Anomaly-Videos-Part-1/Abuse/Abuse002_x264.mp4",
        "Anomaly-Videos-Part-1/Abuse/Abuse028_x264.mp4",
        "Anomaly-Videos-Part-4/Vandalism/Vandalism001_x264.mp4",
        "Anomaly-Videos-Part-4/Vandalism/Vandalism017_x264.mp4",
        "Training-Normal-Videos-Part-1/Normal_Videos001_x264.mp4",
        "Training-Normal-Videos-Part-1/Normal_Videos002_x264.mp4",
        "Testing_Normal_Videos_Anomaly/Normal_Videos_003_x264.mp4",
        "Normal_Videos_for_Event_Recognition/Normal_Videos_003_x264.mp4",
    )
    (root / "Anomaly_Train.txt").write_text(
        "Abuse/Abuse001_x264.mp4\nAbuse/Abuse002_x264.mp4\nVandalism/Vandalism001_x264.mp4\n"
        "Training_Normal_Videos_Anomaly/Normal_Videos001_x264.mp4\nTraining_Normal_Videos_Anomaly/Normal_Videos002_x264.mp4"
    )
    (root / "Temporal_Anomaly_Annotation.txt").write_text(
        "Abuse028_x264.mp4  Abuse  3  8  -1  -1  \n"
        "Normal_Videos_003_x264.mp4\tNormal\t-1\t-1\t-1\t-1\n"
        "Vandalism/Vandalism017_x264.mp4 24 Vandalism 0 4 20 24 \n"
    )
    return {"adapter": "ucf_crime", "root": str(root), "classes": ["Abuse", "Vandalism"]}


XD_TEST = "Bad.Boys.1995__#01-11-55_01-12-40_label_G-B2-B6"


def xd_violence(root: Path) -> dict:
    """XD-Violence: several labels per video; names with `#` and `=`; one listed with suffix; overlapping intervals."""
    put(
        root,
        "train/1-1004/v=9k1__#1_label_G-0-0.mp4",
        "train/1-1004/Fury.2014__#00-39-36_00-40-44_label_B1-B2-0.mp4",
        "train/1-1004/A.Beautiful.Mind.2001__#00-01-45_00-02-50_label_A.mp4",
        "train/2805-3319/v=38G__#00-00-00_00-01-00_label_A.mp4",
        f"test/{XD_TEST}.mp4",
        "test/v=OOj__#1_label_B6-0-0.mp4",
        "test/v=zzz__#1_label_A.mp4",
    )
    (root / "annotations.txt").write_text(f"{XD_TEST} 1 4 6 10\nv=OOj__#1_label_B6-0-0.mp4 2 9 20 25")
    (root / "annotations_multiclasses.txt").write_text(
        f"{XD_TEST} B2 1 4 G 6 8 B6 8 10\nv=OOj__#1_label_B6-0-0.mp4 B6 2 7 B6 5 9 B6 20 25 B6 12 13"
    )
    return {"adapter": "xd_violence", "root": str(root)}


def shanghaitech(root: Path) -> dict:
    """ShanghaiTech: videos of the original training part and image folders of the test part, in both splits."""
    put(root, "training/videos/01_001.avi", "training/videos/01_002.avi", "training/videos/13_003.avi")
    for name in ("01_0014", "01_0015", "13_0007"):
        write_images(root / "testing/frames" / name)
    masks = root / "testing/test_frame_mask"
    masks.mkdir()
    for name in ("01_0014", "01_0015", "13_0007"):
        mask = np.zeros(FRAMES, np.int64)
        mask[5:9] = mask[20:] = 1
        np.save(masks / f"{name}.npy", mask)
    (root / "SH_Train_new.txt").write_text("01_0014,1\n01_002,0\n13_003,0\n13_0007,1\n")
    (root / "SH_Test_NEW.txt").write_text("01_001,0,24\n01_0015,1,-1\n")
    return {"adapter": "shanghaitech", "root": str(root)}


def cityscene(root: Path) -> dict:
    """CitySCENE: one folder per class, one folder of two classes, and a table of intervals."""
    names = ("Fighting/f1", "Robbery/r1", "Fighting;Robbery/fr1", "Normal/n1", "Normal/n2")
    put(root, *(f"train/{name}.mp4" for name in names), "test/t1.mp4", "test/deeper/t2.mp4")
    (root / "annotations.csv").write_text("video_id,label,start_frame,end_frame\nt1,Robbery,2,9\nt1,Fighting,5,24\n")
    return {"adapter": "cityscene", "root": str(root), "classes": ["Fighting", "Robbery"]}


MOCKS = {"ucf_crime": ucf_crime, "xd_violence": xd_violence, "shanghaitech": shanghaitech, "cityscene": cityscene}
LISTS = {
    "ucf_crime": "Temporal_Anomaly_Annotation.txt",
    "xd_violence": "annotations.txt",
    "shanghaitech": "SH_Test_NEW.txt",
    "cityscene": "annotations.csv",
}
