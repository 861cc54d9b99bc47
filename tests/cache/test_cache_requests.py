"""How many requests of an object store a video costs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cache import FeatureStore

CLIPS = 40  # two chunks


@pytest.fixture
def requests(monkeypatch):
    """The requests so far, by their name in the protocol."""
    from s3fs import S3FileSystem

    made: Counter[str] = Counter()
    call = S3FileSystem._call_s3

    async def counted(self, method, *arguments, **options):
        made[method] += 1
        return await call(self, method, *arguments, **options)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    return made


@pytest.fixture
def store(s3_bucket):
    return FeatureStore.open(f"{s3_bucket}/cache")


def write(store: FeatureStore, video_id: str) -> None:
    with store.writer("ns", video_id, views=1, rows=2, columns=2, channels=8, frames_per_clip=2) as writer:
        maps = np.random.default_rng(0).random((CLIPS, 2, 2, 8), dtype=np.float32)
        writer.append(0, maps, np.arange(2 * CLIPS).reshape(CLIPS, 2))
        writer.set_times(np.arange(2 * CLIPS) / 25)
        writer.commit({"made": "here"})


def test_a_video_is_written_without_a_question(store, requests):
    write(store, "v1")  # five documents, two chunks, three small arrays, and the record
    assert requests == {"put_object": 11}


def test_each_object_is_read_once_and_not_asked_about(store, requests):
    write(store, "v1")
    requests.clear()
    reader = store.reader("ns", "v1")
    assert requests == {"get_object": 2}  # the record, and the document of the group
    reader.features(0)
    assert requests == {"get_object": 2 + 1 + 2}
    reader.cue(), reader.frames(), reader.times()
    assert requests == {"get_object": 5 + 3 * 2}


def test_a_video_that_is_longer_than_was_known_is_written_without_a_question(store, requests):
    with store.writer("ns", "v1", views=1, rows=1, columns=1, channels=2, frames_per_clip=1) as writer:
        for first in range(0, 200, 50):
            writer.append(0, np.ones((50, 1, 1, 2)), np.arange(first, first + 50).reshape(50, 1))
        writer.commit({})
    assert set(requests) == {"put_object"}
    assert store.verify("ns") == []
