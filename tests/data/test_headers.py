"""Headers are read once: a journal keeps them as long as a file is unchanged."""

from __future__ import annotations

import json
import os

import pytest

from pipeline.data.decoding.decode import read_header
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.headers import file_facts, read_headers
from pipeline.errors import DecodeError


class Counting(DecodeWorkers):
    """Workers that note what they are asked for."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked: list[str] = []

    def headers(self, paths):
        paths = list(paths)
        self.asked += [path.name for path in paths]
        return super().headers(paths)


@pytest.fixture
def videos(make_video, tmp_path):
    text = tmp_path / "b.mp4"
    text.write_text("no video")
    return [make_video("a.mp4", frames=5), text, make_video("c.mp4", frames=7)]


def read(videos, journal, progress=None):
    with Counting() as workers:
        return read_headers(videos, workers, journal, progress), workers.asked


def test_headers_come_in_order_and_errors_among_them(videos):
    seen = []
    found, asked = read(videos, None, lambda *numbers: seen.append(numbers))
    assert [found[0], found[2]] == [read_header(videos[0]), read_header(videos[2])]
    assert isinstance(found[1], DecodeError)
    assert asked == ["a.mp4", "b.mp4", "c.mp4"]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_journal_spares_a_second_reading_but_of_what_failed(videos, tmp_path):
    journal = tmp_path / "headers.jsonl"
    first, _ = read(videos, journal)
    again, asked = read(videos, journal)
    assert asked == ["b.mp4"]
    assert [again[0], again[2]] == [first[0], first[2]]


def test_a_changed_file_is_read_again(videos, tmp_path, make_video):
    journal = tmp_path / "headers.jsonl"
    read(videos, journal)
    os.utime(videos[0], ns=(1, 1))
    make_video("c.mp4", frames=3)
    found, asked = read(videos, journal)
    assert asked == ["a.mp4", "b.mp4", "c.mp4"]
    assert found[2].packets == 3


def test_a_journal_cut_off_in_a_line_loses_that_line_only(videos, tmp_path):
    journal = tmp_path / "headers.jsonl"
    first, _ = read(videos, journal)
    journal.write_bytes(journal.read_bytes()[:-30])
    found, asked = read(videos, journal)
    assert asked == ["b.mp4", "c.mp4"]
    assert found[2] == first[2]
    assert read(videos, journal)[1] == ["b.mp4"]


def test_a_journal_of_the_version_before_is_read_over(videos, tmp_path):
    journal = tmp_path / "headers.jsonl"
    first, _ = read(videos, journal)
    lines = [json.loads(line) for line in journal.read_text().splitlines() if line]
    for line in lines:
        del line["form"], line["fault"]
        line["packets"] += 100  # it counted packets that are not shown
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, asked = read(videos, journal)
    assert asked == ["a.mp4", "b.mp4", "c.mp4"]
    assert [found[0], found[2]] == [first[0], first[2]]


def test_facts_of_what_is_not_there(tmp_path):
    assert file_facts(tmp_path / "nowhere") == (-1, -1)


def test_facts_of_a_folder_count_links_that_lead_nowhere_as_themselves(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(bytes(100))
    before = file_facts(folder)
    (folder / "2.jpg").symlink_to("2.jpg")
    assert file_facts(folder)[0] > before[0] == 100
