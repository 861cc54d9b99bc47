"""Shared fixtures: a nano experiment that runs end to end in seconds, and small videos that are made when needed."""

from __future__ import annotations

import copy
import os
import random
import signal
import threading
import uuid
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported: small networks, and tests side by side

import av
import numpy as np
import pytest
import torch
import yaml
from faulty_storage import URL, FaultyFileSystem
from fsspec import register_implementation
from hypothesis import settings
from luigi.task_register import Register
from mock_datasets import MOCKS
from pydantic import TypeAdapter
from small_dataset import entry, extract

from pipeline.config import parse_experiment
from pipeline.config.datasets import Dataset
from pipeline.data.manifest import Interval, Manifest
from pipeline.remote import RemotePath, path_of
from pipeline.remote import file as remote_file
from tasks.base import plan_for, recipes_for

pytest.register_assert_rewrite("cache.testing", "pipeline.models.backbones.testing")
# The same examples in every run, and no limit of time: a busy machine must not make a test fail.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")
# A script that starts pytest in the background makes it, and every process of a test, deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Options of heads that would take long; of mgfn's 28 million weights most lie in the last two blocks.
SMALL_HEADS: dict[str, dict[str, object]] = {"mgfn": {"width": 64}}

NANO = {
    "experiment": "nano",
    "dataset": {
        "adapter": "synthetic",
        "name": "nano",
        "seed": 3,
        "classes": ["Explosion", "Fighting", "Accident"],
        "train_normal": 2,
        "train_per_class": 1,
        "test_normal": 1,
        "test_anomalous": 3,
        "train_frames": [16, 24],
        "test_frames": [40, 48],
    },
    "backbone": {"name": "tpn_tiny", "weights": "bundled"},
    "train_sampling": {"segments": 4, "views": 1},
    "test_sampling": {"stride_frames": 6},
    "head": {"standardize": True},
    "training": {"epochs": 3},
    "runs": {"gig": {}, "untrained": {"head": {"name": "pattern_norm"}}},
    "machine": {"device": "cpu"},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a CUDA device are skipped where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random inputs are the same in every run, so that a test that fails here fails here again."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the generator of libraries that take none
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def tasks_forgotten() -> None:
    """Luigi keeps tasks by their parameters: those of another test with a file of the same relative path would run."""
    Register.clear_instance_cache()
    recipes_for.cache_clear()
    plan_for.cache_clear()


@pytest.fixture
def nano(tmp_path: Path) -> dict:
    """The nano experiment as plain data, its outputs in tmp_path."""
    data = copy.deepcopy(NANO)
    data["paths"] = {"output": str(tmp_path / "var"), "cache": str(tmp_path / "cache")}
    return data


@pytest.fixture
def write_config(tmp_path: Path):
    """Write plain data as a YAML file and return its path."""

    def write(data: dict, name: str = "experiment.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return path

    return write


@pytest.fixture
def make_video(tmp_path: Path):
    """Write an H.264 video of n frames whose brightness follows the frame number."""

    def make(name: str = "clip.mp4", frames: int = 12, width: int = 96, height: int = 64, fps: int = 10) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            container.metadata["title"] = name  # equal pictures, but not the same content
            stream = container.add_stream("libx264", rate=fps)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for index in range(frames):
                image = np.full((height, width, 3), 10 + 15 * (index % 16), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        return path

    return make


@pytest.fixture
def experiment(nano, tmp_path):
    """The nano experiment on the videos of `manifest`."""
    nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path), "classes": ["Fighting", "Robbery"]}
    return parse_experiment(nano)


@pytest.fixture
def manifest(tmp_path, make_video):
    """Five small videos of two classes."""
    entries = (
        entry("n1", "train"),
        entry("f1", "train", "Fighting"),
        entry("r1", "train", "Robbery"),
        entry("t1", "test", "Fighting"),
        entry("t2", "test"),
    )
    for number, video in enumerate(entries):
        make_video(video.path, frames=20 + number)
    return Manifest(tmp_path, ("Fighting", "Robbery"), entries, (Interval("t1", "Fighting", 5, 15),))


@pytest.fixture
def cached(experiment, manifest):
    """The same with features in the namespaces `train` and `test`."""
    for split in ("train", "test"):
        extract(experiment, manifest, split, manifest.split(split), split)
    return experiment, manifest


@pytest.fixture
def mock(tmp_path):
    """The section of a mock in tmp_path/data, by name."""

    def make(name: str, **settings):
        root = tmp_path / "data"
        data = MOCKS[name](root) if not root.exists() else {"adapter": name, "root": str(root)}
        return TypeAdapter(Dataset).validate_python(data | settings)

    return make


@pytest.fixture(scope="session")
def s3_server():
    """A server of the S3 protocol on the loopback interface; returns its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_server, monkeypatch) -> str:
    """The URL of a new bucket; the environment says how to reach it, as it does for users."""
    import boto3

    for name, value in (
        ("AWS_ENDPOINT_URL", s3_server),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def faulty(monkeypatch):
    """The file system, empty; `before` on it decides what becomes of a request."""
    register_implementation("faulty", FaultyFileSystem, clobber=True)
    for name, value in (("store", {}), ("pseudo_dirs", [""]), ("requests", Counter()), ("before", lambda kind: None)):
        monkeypatch.setattr(FaultyFileSystem, name, value)
    monkeypatch.setattr(FaultyFileSystem, "ended", threading.Event())
    monkeypatch.setattr("pipeline.remote.storage.PAUSES_S", (0.0, 0.0, 0.0))
    remote_file._kept.clear()
    remote_file._hashes.clear()
    yield FaultyFileSystem
    FaultyFileSystem.ended.set()


@pytest.fixture
def stored(faulty):
    """Put content under a name, and return its path."""

    def put(name: str, content: bytes) -> RemotePath:
        faulty().pipe_file(f"{URL}/{name}", content)
        path = path_of(URL) / name
        assert isinstance(path, RemotePath)
        return path

    return put


@pytest.fixture
def nights(tmp_path, monkeypatch):
    """An inbox and a dataset of days; a stand-in scores."""
    from nights import Nights

    from pipeline.stages.nightly import running

    found = Nights(tmp_path)
    monkeypatch.setattr(running, "score_sources", found.score)
    return found


@pytest.fixture
def write_ablation(nano, write_config, tmp_path):
    """Write an ablation of the nano experiment; returns its path."""
    nano["dataset"] |= {"train_normal": 4, "train_per_class": 2}
    base = write_config(nano)

    def put(**data: object) -> Path:
        return write_config({"name": "parts", "base": str(base)} | data, "ablation.yaml")

    return put
