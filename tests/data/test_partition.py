"""Parts of the training videos: every kind of video is in them, and the seed decides."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline.data.manifest import VideoEntry
from pipeline.data.partition import Division, carve_validation, draw_videos
from pipeline.errors import ManifestError


def entry(video_id: str, *labels: str, source: str | None = None) -> VideoEntry:
    return VideoEntry(video_id, f"{video_id}.mp4", "train", labels, source, 96, 64, 10.0, 20, 1)


def videos(count: int, *labels: str, per_source: int = 1) -> list[VideoEntry]:
    name = "".join(labels) or "n"
    return [
        entry(f"{name}{i}", *labels, source=f"{name}-{i // per_source}" if per_source > 1 else None)
        for i in range(count)
    ]


def test_the_share_of_every_kind_is_taken():
    entries = videos(10) + videos(10, "Fire") + videos(5, "Fire", "Fight")
    chosen = carve_validation(entries, 0.2, seed=0)
    kinds = [next(e.labels for e in entries if e.video_id == video_id) for video_id in chosen]
    assert {labels: kinds.count(labels) for labels in set(kinds)} == {(): 2, ("Fire",): 2, ("Fire", "Fight"): 1}
    assert list(chosen) == sorted(chosen)


def test_videos_of_one_source_stay_together():
    entries = videos(30, per_source=3) + videos(30, "Fire", per_source=3)
    chosen = set(carve_validation(entries, 0.3, seed=1))
    held = {e.source for e in entries if e.video_id in chosen}
    assert held.isdisjoint({e.source for e in entries if e.video_id not in chosen})
    assert len(chosen) == 18


def test_a_source_of_several_kinds_is_one_group():
    entries = [entry("a", source="s"), entry("b", "Fire", source="s"), *videos(4), *videos(4, "Fire")]
    for seed in range(8):
        assert len({"a", "b"} & set(carve_validation(entries, 0.25, seed))) in (0, 2)


def test_the_choice_follows_from_the_seed_and_the_names_alone():
    entries = videos(20) + videos(20, "Fire")
    assert carve_validation(entries, 0.2, 3) == carve_validation(entries[::-1], 0.2, 3)
    assert carve_validation(entries, 0.2, 3) != carve_validation(entries, 0.2, 4)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (videos(5) + videos(1, "Fire"), "no anomalous video would be left for validation"),
        (videos(1) + videos(5, "Fire"), "no normal video would be left for validation"),
        ([entry("a", source="s"), *videos(2, "Fire")], "no normal video"),
    ],
)
def test_too_few_videos_are_an_error(entries, message):
    with pytest.raises(ManifestError, match=message):
        carve_validation(entries, 0.5, seed=0)


def test_a_class_of_one_video_stays_for_fitting():
    entries = videos(6) + videos(6, "Fire") + videos(1, "Fight")
    assert "Fight0" not in carve_validation(entries, 0.5, seed=0)


def drawn(entries: list[VideoEntry], count: int, seed: int = 0) -> list[str]:
    return [entry.video_id for entry in draw_videos(entries, count, seed)]


CITY = [*videos(24), *videos(8, "Fire"), *videos(8, "Fight"), *videos(8, "Fall")]


@pytest.mark.parametrize("seed", range(3))
def test_fewer_videos_are_a_part_of_more(seed):
    parts = [set(drawn(CITY, count, seed)) for count in range(2, 49)]
    assert all(smaller < larger for smaller, larger in zip(parts, parts[1:], strict=False))
    assert [len(part) for part in parts] == list(range(2, 49))


@pytest.mark.parametrize("count", [2, 6, 12, 24, 48])
def test_drawn_videos_have_the_shares_of_all(count):
    kinds = Counter(entry.labels for entry in draw_videos(CITY, count, seed=5))
    assert kinds[()] == count // 2
    classes = [kinds[(label,)] for label in ("Fire", "Fight", "Fall")]
    assert sum(classes) == count // 2
    assert max(classes) - min(classes) <= 1


def test_a_rare_kind_is_drawn_too():
    assert {entry.labels for entry in draw_videos([*videos(100), *videos(2, "Fire")], 2, 0)} == {(), ("Fire",)}


def test_the_draw_follows_from_the_seed_and_the_names_alone():
    assert drawn(CITY, 12, 1) == [v for v in drawn(CITY, 48, 1) if v in set(drawn(CITY[::-1], 12, 1))]
    assert len({tuple(drawn(CITY, 12, seed)) for seed in range(5)}) == 5
    first = {next(e.labels for e in draw_videos(CITY, 2, seed) if e.labels) for seed in range(12)}
    assert len(first) == 3  # no class comes first with every seed


def test_more_videos_than_there_are_are_an_error():
    assert len(drawn(CITY, 48)) == 48
    with pytest.raises(ManifestError, match=r"selection.train_videos: expected at most 48.*got 49"):
        drawn(CITY, 49)


def test_the_validation_split_is_taken_from_the_videos_that_are_used():
    division = Division(0.25, 0, train_videos=24, videos_seed=2)
    used, held_out = {entry.video_id for entry in division.used(CITY)}, set(division.held_out(CITY))
    assert len(used) == 24
    assert held_out < used
    assert len(held_out) == 6
    assert Division().used(CITY) == tuple(CITY)
    assert Division().held_out(CITY) == ()
