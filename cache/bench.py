"""Speed and size of this cache and of other ways to keep the same maps, measured in turns in one run."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from cache.objects import Objects
from cache.progress import Progress
from cache.store import FeatureStore

__all__ = ["Row", "Way", "compare", "generated_maps", "time_store"]


@dataclass(frozen=True)
class Row:
    """Medians of one way of keeping maps; the ratios are medians of the ratios within each turn.

    Attributes:
        way: its name.
        write_mb_s, read_mb_s: uncompressed megabytes (10^6 bytes) per second.
        bytes_per_clip, share_of_raw: size on disk.
        files: number of files of one video.
        write_ratio, read_ratio: speed relative to zarr-python's defaults; above 1 is faster.
    """

    way: str
    write_mb_s: float
    read_mb_s: float
    bytes_per_clip: int
    share_of_raw: float
    files: int
    write_ratio: float
    read_ratio: float


def generated_maps(clips: int, channels: int = 2048) -> np.ndarray:
    """Maps (T, 7, 7, D) float16 with half of the values zero, by channel and by position, as after a ReLU."""
    generator = np.random.default_rng(0)
    level = generator.normal(size=(clips, 1, 1, channels)).astype(np.float32)
    values = level * 1.5 + generator.normal(size=(clips, 7, 7, channels)).astype(np.float32) * 0.5
    return np.maximum(values, 0).astype(np.float16)


def compare(
    maps: np.ndarray,
    url: str,
    repeats: int = 5,
    batch_clips: int = 8,
    more: Mapping[str, Callable[[Path], Way]] | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Write and read one video's maps in every way, `repeats` times in turns.

    Args:
        maps: (T, H, W, D) float16 or float32.
        url: scratch folders are made below it and removed. If it is no local folder, only this cache is measured.
        repeats: number of turns.
        batch_clips: clips that this cache gets at a time, as a backbone makes them; the other ways get the whole array.
        more: further ways, by name; each is called with its path.
        progress: called before each way in each turn.
    """
    root = f"bench-{uuid.uuid4().hex}"
    objects = Objects(url)
    ways: dict[str, Way] = {"this cache": OurWay(f"{url.rstrip('/')}/{root}", batch_clips)}
    if objects.local:
        Path(objects.path("")).mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=objects.path("")))
        others: dict[str, Callable[[Path], Way]] = {
            "zarr-python's defaults": ZarrWay,
            "raw .npy": NpyWay,
            "h5py": Hdf5Way,
            "h5py, gzip 1": GzipWay,
        }
        others |= more or {}
        ways |= {name: way(folder / str(number)) for number, (name, way) in enumerate(others.items())}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    sizes: dict[str, tuple[int, int]] = {}
    try:
        for turn in range(repeats):
            for number, (name, way) in enumerate(ways.items()):
                if progress:
                    progress(turn * len(ways) + number, repeats * len(ways), name)
                times[name].append((_seconds(partial(way.write, maps)), _seconds(way.read)))
                sizes[name] = way.size()
                way.remove()
    finally:
        objects.remove(root)
        if objects.local:
            shutil.rmtree(folder, ignore_errors=True)
    base = times.get("zarr-python's defaults", times["this cache"])
    return [
        Row(
            way=name,
            write_mb_s=round(maps.nbytes / 1e6 / statistics.median(write for write, _ in taken), 1),
            read_mb_s=round(maps.nbytes / 1e6 / statistics.median(read for _, read in taken), 1),
            bytes_per_clip=sizes[name][0] // len(maps),
            share_of_raw=round(sizes[name][0] / maps.nbytes, 3),
            files=sizes[name][1],
            write_ratio=round(statistics.median(b[0] / t[0] for b, t in zip(base, taken, strict=True)), 2),
            read_ratio=round(statistics.median(b[1] / t[1] for b, t in zip(base, taken, strict=True)), 2),
        )
        for name, taken in times.items()
    ]


def time_store(maps: np.ndarray, url: str, repeats: int = 3, batch_clips: int = 8) -> tuple[float, float]:
    """Seconds that this cache takes to write and to read one video's maps, the medians of some repetitions.

    Args:
        maps: (T, H, W, D) float16 or float32.
        url: of a cache that holds nothing else; what is written there is removed.
        repeats: number of repetitions.
        batch_clips: clips that the cache gets at a time, as a backbone makes them.
    """
    way, taken = OurWay(url, batch_clips), []
    for _ in range(repeats):
        taken.append((_seconds(partial(way.write, maps)), _seconds(way.read)))
        way.remove()
    return statistics.median(write for write, _ in taken), statistics.median(read for _, read in taken)


class Way:
    """One way of keeping a video's maps in a local folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, maps: np.ndarray) -> None:
        """Keep the maps (T, H, W, D)."""
        raise NotImplementedError

    def read(self) -> np.ndarray:
        """All of them, from what `write` left."""
        raise NotImplementedError

    def size(self) -> tuple[int, int]:
        """Bytes and files."""
        files = [path for path in [self.path, *self.path.rglob("*")] if path.is_file()]
        return sum(path.stat().st_size for path in files), len(files)

    def remove(self) -> None:
        """Make room for the next turn."""
        shutil.rmtree(self.path) if self.path.is_dir() else self.path.unlink()


class ZarrWay(Way):
    """What `zarr.create_array` does with a shape and a dtype."""

    def write(self, maps: np.ndarray) -> None:
        zarr.create_array(self.path, shape=maps.shape, dtype=maps.dtype)[...] = maps

    def read(self) -> np.ndarray:
        return np.asarray(zarr.open_array(self.path, mode="r")[...])


class NpyWay(Way):
    """np.save and np.load."""

    def write(self, maps: np.ndarray) -> None:
        with self.path.open("wb") as stream:
            np.save(stream, maps)

    def read(self) -> np.ndarray:
        with self.path.open("rb") as stream:
            maps: np.ndarray = np.load(stream)
            return maps


class Hdf5Way(Way):
    """An HDF5 dataset with one chunk per clip."""

    options: dict[str, Any] = {}

    def write(self, maps: np.ndarray) -> None:
        import h5py

        with h5py.File(self.path, "w") as file:
            file.create_dataset("features", data=maps, chunks=(1, *maps.shape[1:]), **self.options)

    def read(self) -> np.ndarray:
        import h5py

        with h5py.File(self.path, "r") as file:
            maps: np.ndarray = file["features"][...]
            return maps


class GzipWay(Hdf5Way):
    """The same, with the compression that every HDF5 has."""

    options = {"compression": "gzip", "compression_opts": 1}


class OurWay(Way):
    """This cache: checked on writing and on reading, and committed."""

    def __init__(self, url: str, batch_clips: int) -> None:
        self._store, self._batch = FeatureStore.open(url), batch_clips

    def write(self, maps: np.ndarray) -> None:
        clips, rows, columns, channels = maps.shape
        frames = 3 * np.arange(clips)[:, None] + np.arange(6)
        with self._store.writer(
            "bench",
            "video",
            views=1,
            rows=rows,
            columns=columns,
            channels=channels,
            frames_per_clip=6,
            dtype=maps.dtype.name,
        ) as writer:
            for start in range(0, clips, self._batch):
                stop = start + self._batch
                writer.append(0, maps[start:stop], frames[start:stop])
            writer.set_times(np.arange(3 * clips + 3) / 25)
            writer.commit({})

    def read(self) -> np.ndarray:
        return self._store.reader("bench", "video").features(0)

    def size(self) -> tuple[int, int]:
        files = self._store.objects.files("bench")
        return sum(size for size, _ in files.values()), len(files)

    def remove(self) -> None:
        self._store.objects.remove("bench")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
