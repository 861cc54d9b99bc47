"""The examples of the analysts' page do what it says."""

from __future__ import annotations

import doctest

import numpy as np
from places import ROOT

from cache import FeatureStore

PAGE = ROOT / "docs" / "cache-analyst.md"


def test_the_examples_of_the_analysts_page_run_as_written(tmp_path):
    store, labels = FeatureStore.open(tmp_path / "cache"), {}
    generator = np.random.default_rng(0)
    for number in range(12):
        video_id = f"v{number:02}"
        labels[video_id] = "Fighting" if number % 3 == 0 else "Normal"
        maps = generator.random((2, 8, 7, 7, 16)).astype(np.float32)
        if labels[video_id] == "Fighting":
            maps[:, :, 2, 5, :4] += 3
        with store.writer(
            "street-views", video_id, views=2, rows=7, columns=7, channels=16, frames_per_clip=5
        ) as writer:
            for view in range(2):
                writer.append(view, maps[view], 5 * np.arange(8)[:, None] + np.arange(5))
            writer.set_times(np.arange(40) / 10)
            writer.commit({"source": {"path": f"{video_id}.mp4"}})
    names = {"cache_url": str(tmp_path / "cache"), "label_of": labels}
    result = doctest.testfile(str(PAGE), module_relative=False, globs=names, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 25
    assert result.failed == 0
