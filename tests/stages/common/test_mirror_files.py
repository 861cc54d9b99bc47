"""Small files that all machines share through the bucket of their results, and stores that are not S3."""

# ruff: noqa: F811 (arguments are named like the fixtures that are imported)

from __future__ import annotations

import logging

import pytest
from mirrors import MADE, contents, machine, s3, server, write  # noqa: F401 (fixtures)

from pipeline.config.mirrors import mirror_folder
from pipeline.errors import DecodeError
from pipeline.stages.common import bucket
from pipeline.stages.common.mirror import check_writable, is_made
from pipeline.stages.common.outputs import fetch_folder, growing_folder, make_folder
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.common.shared_files import forget_listings, shared_journal


class TestSmallFiles:
    def test_the_quarantine_is_one_for_all_machines(self, s3, machine):
        one, two = (Quarantine(machine(name) / "quarantine-1") for name in ("one", "two"))
        one.add("v1", "v1.mp4", "test", DecodeError("no frame"))
        assert (two.ids(), two.has("v1"), two.has("v2")) == (["v1"], True, False)
        assert two.ids("train") == []
        one.add("v2", "v2.mp4", "train", DecodeError("no frame"))
        two.clear(["v1"])
        forget_listings()
        assert (one.ids(), two.ids()) == (["v2"], ["v2"])

    def test_ids_are_listed_once_for_a_step_and_again_for_the_next(self, s3, machine):
        quarantine = Quarantine(machine("one") / "quarantine-1")
        forget_listings()
        s3.requests.clear()
        assert [quarantine.ids() for _ in range(5)] == [[]] * 5
        assert len(s3.requests) == 1
        Quarantine(machine("two") / "quarantine-1").add("v1", "v1.mp4", "test", DecodeError("no frame"))
        forget_listings()
        assert quarantine.ids() == ["v1"]

    def test_a_record_that_was_replaced_elsewhere_is_read_again(self, s3, machine):
        one, two = (Quarantine(machine(name) / "quarantine-1") for name in ("one", "two"))
        one.add("v1", "v1.mp4", "test", DecodeError("no frame"))
        two.records()
        one.add("v1", "v1.mp4", "test", DecodeError("cut short"))
        assert [record.reason for record in two.records()] == ["cut short"]

    def test_the_headers_that_one_machine_read_are_there_for_the_next(self, s3, machine):
        one, two = machine("one") / "headers.jsonl", machine("two") / "headers.jsonl"
        with shared_journal(one):
            one.parent.mkdir(parents=True)
            one.write_text("a line")
        with shared_journal(two):
            assert two.read_text() == "a line"
        s3.requests.clear()
        with shared_journal(two):
            pass
        assert s3.requests == []  # it is here, and nothing was added


def test_a_store_that_is_not_s3_is_written_in_the_same_order_without_locks(tmp_path, caplog):
    url = f"memory://results-{tmp_path.name}"
    one, two = (mirror_folder(tmp_path / name, url) / "nano" for name in ("one", "two"))
    assert (
        check_writable(one) == f"{url}: can be written; it has no puts under a condition, so run one command at a time"
    )
    with caplog.at_level(logging.WARNING):
        make_folder(one / "scores-1", write)
    assert f"{url}: this store has no puts under a condition" in caplog.text
    assert is_made(two / "scores-1")
    fetch_folder(two / "scores-1")
    assert contents(two / "scores-1") == MADE
    Quarantine(one / "quarantine-1").add("v1", "v1.mp4", "test", DecodeError("no frame"))
    there = Quarantine(two / "quarantine-1")
    assert (there.has("v1"), there.has("v2")) == (True, False)
    assert [record.video_id for record in there.records()] == ["v1"]
    there.clear()
    assert Quarantine(one / "quarantine-1").records() == []


def test_what_two_processes_of_a_machine_do_to_a_shared_folder_at_once(tmp_path, monkeypatch):
    """One lists what is stored while the other one adds to it."""
    folder = mirror_folder(tmp_path, f"memory://shared-{tmp_path.name}") / "nano" / "quarantine-1"
    quarantine, other = Quarantine(folder), Quarantine(folder)
    folder.mkdir(parents=True)
    half_written = folder / "v1.json.partial"
    half_written.write_bytes(b"half")
    listing = bucket.Bucket.versions

    def slow_listing(self: bucket.Bucket, name: str) -> dict[str, str]:
        listed = listing(self, name)
        other.add("v2", "v2.mp4", "test", DecodeError("no frame"))
        return listed

    monkeypatch.setattr(bucket.Bucket, "versions", slow_listing)
    assert [record.video_id for record in quarantine.records()] == ["v2"]
    assert half_written.exists()


def test_a_record_that_another_machine_has_added_can_be_cleared(tmp_path):
    url = f"memory://cleared-{tmp_path.name}"
    one, two = (Quarantine(mirror_folder(tmp_path / name, url) / "nano" / "quarantine-1") for name in ("one", "two"))
    assert one.ids() == []
    two.add("v1", "v1.mp4", "test", DecodeError("no frame"))
    assert one.clear(["v1"]) == ["v1"]
    assert two.records() == []


def test_a_folder_that_grows_has_what_every_machine_has_added(tmp_path):
    url = f"memory://grown-{tmp_path.name}"
    one, two = (mirror_folder(tmp_path / name, url) / "nano" / "proxies-1" for name in ("one", "two"))
    with growing_folder(one):
        one.mkdir(parents=True)
        (one / "a.mp4").write_bytes(b"a")

    def interrupted() -> None:
        with growing_folder(two):
            assert contents(two) == {"a.mp4": b"a"}
            (two / "b.mp4").write_bytes(b"b")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted()
    with growing_folder(one):
        assert contents(one) == {"a.mp4": b"a", "b.mp4": b"b"}
        stored = is_made(two)
    assert stored
