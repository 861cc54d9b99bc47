"""Full batches across windows and videos, memory that runs out, precision, and writing behind the model."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.models.backbone import build_backbone
from pipeline.models.fast_tpn import FastTPN
from pipeline.stages.common.device import check_precision, choose_batch, pick_device
from pipeline.stages.extraction import engine as engine_module
from pipeline.stages.extraction.engine import Clip, ClipBatcher, Engine
from pipeline.stages.extraction.writing import WriteBehind


class Network(torch.nn.Module):
    """Adds up what it gets, notes the size of every batch, and runs out of memory above `room`."""

    recordable = False

    def __init__(self, room: int = 100) -> None:
        super().__init__()
        self.room, self.sizes = room, []

    def frames(self, images):
        return self._sum(images.permute(0, 3, 1, 2).float(), len(images))

    def clips(self, frames):
        return self._sum(frames.sum(dim=0).permute(0, 2, 3, 1), frames.shape[1])

    def _sum(self, values, count):
        self.sizes.append(count)
        if count > self.room:
            raise torch.cuda.OutOfMemoryError("no more memory")
        return values


class Sink:
    def __init__(self) -> None:
        self.got: list[tuple[int, float, int]] = []

    def take(self, view, maps, rows, indices):
        self.got += [(view, float(m.max()), int(i[0])) for m, i in zip(maps.numpy()[rows], indices, strict=True)]


def image(value: int) -> np.ndarray:
    return np.full((4, 4, 3), value, np.uint8)


def clip(engine: Engine, value: int, view: int = 0) -> Clip:
    return Clip(view, tuple(engine.frames([image(value)] * 2)), np.array([value, value]))


@pytest.mark.parametrize(
    ("recordable", "compiled", "recorded"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_only_a_network_that_says_so_is_recorded(monkeypatch, recordable, compiled, recorded):
    asked = []
    monkeypatch.setattr(engine_module, "Replayed", lambda step, device, *, recording: asked.append(recording))
    monkeypatch.setattr(torch, "compile", lambda step, dynamic: step)
    network = Network()
    network.recordable = recordable
    Engine(network, torch.device("cpu"), 4, compiled=compiled)
    assert asked == [recorded, recorded]
    assert FastTPN.recordable


def test_batches_are_full_and_maps_find_their_video():
    engine = Engine(Network(), torch.device("cpu"), 4)
    batcher, first, second = ClipBatcher(engine), Sink(), Sink()
    clips = [(first, clip(engine, v, view)) for v, view in ((1, 0), (2, 0), (3, 1))]
    clips += [(second, clip(engine, v)) for v in (4, 5, 6)]
    engine.network.sizes.clear()
    for sink, item in clips:
        batcher.add(sink, item)
    assert (first.got, second.got) == ([(0, 2.0, 1), (0, 4.0, 2), (1, 6.0, 3)], [(0, 8.0, 4)])
    batcher.flush()
    assert second.got == [(0, 8.0, 4), (0, 10.0, 5), (0, 12.0, 6)]
    assert engine.network.sizes == [4, 4]  # the last one padded
    batcher.flush()
    assert engine.network.sizes == [4, 4]


def test_frames_go_in_large_batches_and_the_rest_in_small_ones():
    engine = Engine(Network(), torch.device("cpu"), 4)
    frames = engine.frames([image(v) for v in range(30)])
    assert [float(f.max()) for f in frames] == list(range(30))
    assert engine.network.sizes == [12, 12, 4, 4]


def test_clips_of_a_dropped_video_are_not_run():
    engine = Engine(Network(), torch.device("cpu"), 4)
    batcher, bad, good = ClipBatcher(engine), Sink(), Sink()
    for sink, value in ((bad, 1), (good, 2), (bad, 3)):
        batcher.add(sink, clip(engine, value))
    batcher.drop(bad)
    batcher.flush()
    assert (bad.got, good.got) == ([], [(0, 4.0, 2)])


def test_too_little_memory_halves_the_batch_says_so_and_goes_on():
    said = []
    engine = Engine(Network(room=3), torch.device("cpu"), 8, said.append)
    frames = engine.frames([image(v) for v in range(10)])
    assert [float(f.max()) for f in frames] == list(range(10))
    assert engine.network.sizes == [8, 4, 2, 2, 2, 2, 2]
    assert said == [f"the device has too little memory: from now on {n} frames at once" for n in (4, 2)]
    maps = engine.clips([(frame,) for frame in frames]).numpy()
    assert engine.network.sizes[7:] == [8, 4, 2, 2, 2, 2, 2]
    assert said[2:] == [f"the device has too little memory: from now on {n} clips at once" for n in (4, 2)]
    assert maps.max(axis=(1, 2, 3)).tolist() == list(range(10))


def test_no_memory_for_a_single_clip_is_an_error():
    engine = Engine(Network(room=0), torch.device("cpu"), 2)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        engine.frames([image(0)])


def test_halving_in_the_middle_of_a_batch_loses_no_clip():
    engine = Engine(Network(), torch.device("cpu"), 8)
    clips = [clip(engine, v) for v in range(11)]
    engine.network.room = 3
    batcher, sink = ClipBatcher(engine), Sink()
    for item in clips:
        batcher.add(sink, item)
    batcher.flush()
    assert [first for _, _, first in sink.got] == list(range(11))


def test_a_room_gives_what_single_images_give():
    engine = Engine(Network(), torch.device("cpu"), 4)
    room = engine.room((4, 4, 3))
    assert (tuple(room.shape), room.dtype) == ((12, 4, 4, 3), torch.uint8)
    room[:] = torch.arange(12)[:, None, None, None]
    for count, sizes in ((12, [12]), (8, [4, 4]), (3, [4])):
        engine.network.sizes.clear()
        assert [float(f.max()) for f in engine.frames(room[:count])] == list(range(count))
        assert engine.network.sizes == sizes


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def moving() -> np.ndarray:
    """Pictures (48, 224, 224, 3)."""
    return np.random.default_rng(0).integers(0, 256, (48, 224, 224, 3), dtype=np.uint8)


def maps_of(
    device: str,
    pictures: np.ndarray,
    precision: str = "float32",
    batch: int = 8,
    say=lambda message: None,
    passes: int = 1,
) -> np.ndarray:
    network = FastTPN(build_backbone("tpn_tiny", "bundled"))
    network.set_precision(getattr(torch, precision))
    engine = Engine(network, torch.device(device), batch, say)
    for _ in range(passes):
        frames = engine.frames(pictures)
        maps = engine.clips([frames[start : start + 6] for start in range(0, len(frames) - 5, 3)]).numpy()
    return maps


@pytest.mark.gpu
def test_a_gpu_gives_the_features_of_a_cpu(moving):
    expected = maps_of("cpu", moving)
    assert relative(maps_of("cuda", moving), expected) < 1e-5  # float32 is no TF32
    assert relative(maps_of("cuda", moving, "bfloat16"), expected) < 0.03
    assert relative(maps_of("cuda", moving, "float16"), expected) < 0.005
    for precision in ("float32", "bfloat16", "float16"):
        np.testing.assert_array_equal(maps_of("cuda", moving, precision), maps_of("cuda", moving, precision, passes=3))


@pytest.mark.gpu
def test_a_gpu_that_is_too_small_for_the_batch_gets_smaller_ones(moving):
    total, said = torch.cuda.mem_get_info()[1], []
    expected = maps_of("cuda", moving)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.5 * 2**30 / total)
    try:
        found = maps_of("cuda", moving, batch=1024, say=said.append, passes=3)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert said
    assert all("too little memory" in message for message in said)
    assert relative(found, expected) < 1e-5


def test_a_precision_without_instructions_is_refused(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    check_precision("float32", torch.device("cpu"))
    with pytest.raises(ConfigError, match="this cpu has no instructions for bfloat16"):
        check_precision("bfloat16", torch.device("cpu"))
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    check_precision("bfloat16", torch.device("cpu"))


def test_the_batch_that_is_chosen():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [choose_batch(0, cpu), choose_batch(0, gpu), choose_batch(5, cpu), choose_batch(5, gpu)] == [8, 32, 5, 5]


def test_a_device_that_is_not_there_is_refused():
    assert pick_device("cpu").type == "cpu"
    for name in ("cuda:99", "gpu"):
        with pytest.raises(ConfigError, match="machine.device"):
            pick_device(name)


def test_writing_behind_keeps_order_and_holds_the_model_back():
    done, gate = [], threading.Event()

    def work(number: int) -> None:
        gate.wait(300)
        done.append(number)

    with WriteBehind(waiting=2) as behind:
        behind.submit(work, 0)
        behind.submit(work, 1)
        third = threading.Thread(target=behind.submit, args=(work, 2))
        third.start()
        third.join(0.2)
        assert third.is_alive()  # two calls are waiting already
        gate.set()
        third.join(300)
        assert not third.is_alive()
    assert done == [0, 1, 2]
