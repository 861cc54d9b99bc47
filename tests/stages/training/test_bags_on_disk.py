"""Reduced features on disk: what an interrupted run left is used only if it was made from the same inputs."""

from __future__ import annotations

from safetensors import safe_open
from safetensors.torch import load, save

from pipeline.stages.training.bags_on_disk import read_windows, write_test, write_training


def test_test_files_are_kept_as_long_as_the_training_videos_are_the_same(cached, tmp_path):
    experiment, manifest = cached
    training, folder = tmp_path / "train", tmp_path / "test.partial"
    training.mkdir()
    write_training(experiment, "gig", manifest, "train", training)
    write_test(experiment, "gig", manifest, "test", training, folder)
    file = folder / "t1.safetensors"
    whole = file.read_bytes()

    replace(file, b"made before")
    write_test(experiment, "gig", manifest, "test", training, folder)
    assert file.read_bytes() == b"made before"

    path = training / "train.safetensors"
    with safe_open(path, framework="pt") as stream:
        metadata = stream.metadata()
    tensors = load(path.read_bytes())
    replace(path, save(tensors | {"more": tensors["cues"].clone()}, metadata=metadata))
    write_test(experiment, "gig", manifest, "test", training, folder)
    assert file.read_bytes() == whole
    assert next(read_windows(folder, "t2")).vectors.shape[0] == 1


def replace(path, content: bytes) -> None:
    """Another file under the name: files are mapped, so none is written in place."""
    path.unlink()
    path.write_bytes(content)
