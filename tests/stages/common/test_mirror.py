"""Results in a bucket, behind a server that speaks S3: whole or not at all, whatever server and other machines do."""

# ruff: noqa: F811 (arguments are named like the fixtures that are imported)

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest
import s3fs
from faulty_s3 import slow
from mirrors import MADE, URL, contents, forget, machine, s3, server, write  # noqa: F401 (fixtures)

from cache.errors import CacheError, WriteFailed
from pipeline.config.mirrors import mirror_folder
from pipeline.errors import OutputError
from pipeline.stages.common import leases
from pipeline.stages.common.mirror import check_writable, is_made, mirrored, place_of
from pipeline.stages.common.outputs import fetch_folder, locked, make_folder
from pipeline.stages.extraction.claims import Claims


class TestAnOutput:
    def test_is_stored_under_its_own_name_and_its_marker_comes_last(self, s3, machine):
        make_folder(machine("one") / "scores-1", write)
        keys = ["prefix/nano/scores-1/.complete", "prefix/nano/scores-1/frames/v1.parquet"]
        assert s3.objects() == [*keys, "prefix/nano/scores-1/index.html"]  # neither locks nor trials are left
        puts = [path for method, path in s3.requests if method == "PUT" and "/scores-1/" in path]
        assert puts[-1].endswith("/.complete")
        assert len(puts) == 3
        page = s3.client.get_object(Bucket="results", Key="prefix/nano/scores-1/index.html")
        assert page["ContentType"] == "text/html"  # so that a browser shows it

    def test_costs_six_requests_and_one_for_each_file(self, s3, machine):
        assert mirrored(machine("one")).bucket.conditional()  # tried once by each process
        s3.requests.clear()
        make_folder(machine("one") / "scores-1", write)
        assert len(s3.requests) == 6 + len(MADE)
        s3.requests.clear()
        fetch_folder(machine("two") / "scores-1")
        assert len(s3.requests) == 1 + len(MADE)

    def test_is_there_for_another_machine_which_fetches_it_once(self, s3, machine):
        make_folder(machine("one") / "scores-1", write)
        other = machine("two") / "scores-1"
        assert is_made(other)
        assert not other.exists()
        make_folder(other, lambda folder: pytest.fail("it is made"))
        fetch_folder(other)
        assert contents(other) == MADE
        s3.requests.clear()
        fetch_folder(other)
        assert [method for method, _ in s3.requests] == ["GET"]  # of the marker

    def test_that_nobody_made_is_not_there_and_fetching_it_makes_nothing(self, s3, machine):
        final = machine("one") / "scores-1"
        assert not is_made(final)
        fetch_folder(final)
        assert not final.exists()

    def test_made_again_elsewhere_replaces_the_copy_of_this_machine(self, s3, machine):
        one, two = machine("one") / "head-1", machine("two") / "head-1"
        make_folder(one, lambda folder: (folder / "head").write_text("first"))
        fetch_folder(two)
        for key in s3.objects("prefix/nano/head-1"):
            s3.client.delete_object(Bucket="results", Key=key)
        make_folder(one, lambda folder: (folder / "head").write_text("second"))
        fetch_folder(two)
        assert contents(two) == contents(one) == {"head": b"second"}

    def test_larger_than_one_put_travels_in_parts(self, s3, machine, monkeypatch):
        monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda *arguments, **options: 5 << 20)
        data = bytes(11 << 20)
        make_folder(machine("one") / "head-1", lambda folder: (folder / "head").write_bytes(data))
        fetch_folder(machine("two") / "head-1")
        assert (machine("two") / "head-1" / "head").read_bytes() == data
        assert any(method == "POST" for method, _ in s3.requests)

    def test_in_a_folder_of_this_machine_asks_no_server(self, s3, tmp_path):
        make_folder(tmp_path / "scores-1", write)
        fetch_folder(tmp_path / "scores-1")
        assert s3.requests == []


class TestFaults:
    def test_a_few_errors_of_the_server_are_overcome(self, s3, machine):
        refused: set[tuple[str, str]] = set()

        def first_time(method: str, path: str) -> int | None:
            if (method, path) in refused:
                return None
            refused.add((method, path))
            return 500

        s3.fault = first_time
        make_folder(machine("one") / "scores-1", write)
        fetch_folder(machine("two") / "scores-1")
        assert contents(machine("two") / "scores-1") == MADE

    def test_puts_whose_answers_are_lost_are_not_taken_for_those_of_others(self, s3, machine):
        lost: set[str] = set()

        def lose(method: str, path: str) -> int | None:
            if method != "PUT" or path in lost:
                return None
            lost.add(path)
            return 500

        s3.after = lose
        make_folder(machine("one") / "scores-1", write)
        fetch_folder(machine("two") / "scores-1")
        assert contents(machine("two") / "scores-1") == MADE
        assert len(lost) == 5  # the trial, the lease, two files and the marker

    def test_a_server_that_stops_taking_files_ends_in_an_error_and_what_was_made_is_stored_the_next_time(
        self, s3, machine
    ):
        s3.fault = lambda method, path: 503 if method == "PUT" and path.endswith("index.html") else None
        final = machine("one") / "scores-1"
        with pytest.raises(WriteFailed, match=r"results/prefix/nano/scores-1/index\.html cannot be written"):
            make_folder(final, write)
        assert not is_made(final)
        s3.fault = None
        make_folder(final, lambda folder: pytest.fail("it is made, only not stored"))
        fetch_folder(machine("two") / "scores-1")
        assert contents(machine("two") / "scores-1") == MADE

    def test_slow_answers_are_waited_for(self, s3, machine):
        s3.fault = slow(0.2, "PUT")
        make_folder(machine("one") / "scores-1", write)
        assert is_made(machine("two") / "scores-1")

    def test_silence_ends_at_the_stated_limit(self, s3, machine, monkeypatch):
        monkeypatch.setenv("GIG_CACHE_TIMEOUT_S", "0.5")
        forget()
        ended = threading.Event()
        s3.fault = lambda method, path: ended.wait(300) and None
        try:
            with pytest.raises(CacheError, match=r"no answer within 0\.5 s \(GIG_CACHE_TIMEOUT_S sets the limit\)"):
                make_folder(machine("one") / "scores-1", write)
        finally:
            ended.set()
        assert not machine("one").joinpath("scores-1").exists()

    def test_a_server_that_is_not_there_is_an_error_that_names_the_output(self, s3, machine, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the port of `discard`: refused
        forget(address=True)
        with pytest.raises(CacheError, match=r"results/prefix/nano/scores-1/\.complete cannot be read.*127\.0\.0\.1:9"):
            is_made(machine("one") / "scores-1")
        forget(address=True)

    def test_a_server_that_dies_while_an_output_is_fetched_leaves_none(self, s3, machine):
        make_folder(machine("one") / "scores-1", write)
        final = machine("two") / "scores-1"
        s3.fault = lambda method, path: 500 if path.endswith("v1.parquet") else None
        with pytest.raises(CacheError, match=r"v1\.parquet cannot be read"):
            fetch_folder(final)
        assert not final.exists()
        s3.fault = None
        fetch_folder(final)
        assert contents(final) == MADE

    @pytest.mark.parametrize(
        ("content", "said"), [(b"scoreZ", "expected the content with SHA-256"), (None, "is not there")]
    )
    def test_a_file_that_was_changed_or_removed_in_the_bucket_is_found(self, s3, machine, content, said):
        make_folder(machine("one") / "scores-1", write)
        place = {"Bucket": "results", "Key": "prefix/nano/scores-1/frames/v1.parquet"}
        s3.client.put_object(**place, Body=content) if content else s3.client.delete_object(**place)
        with pytest.raises(OutputError, match=f"v1.parquet: {said}"):
            fetch_folder(machine("two") / "scores-1")
        assert not (machine("two") / "scores-1").exists()

    def test_what_a_killed_process_had_put_is_replaced(self, s3, machine):
        key = "prefix/nano/scores-1/frames/v1.parquet"
        s3.client.put_object(Bucket="results", Key=key, Body=b"of the killed one")
        make_folder(machine("one") / "scores-1", write)
        assert s3.read(key) == b"scores"


class TestLocks:
    def test_two_machines_at_once_make_it_once(self, s3, machine):
        built, said = [], []
        began, go_on = threading.Event(), threading.Event()

        def build(folder: Path) -> None:
            built.append(folder)
            began.set()
            go_on.wait(300)
            write(folder)

        first = threading.Thread(target=make_folder, args=(machine("one") / "scores-1", build))
        first.start()
        began.wait(300)

        def say(message: str) -> None:
            said.append(message)
            go_on.set()

        make_folder(machine("two") / "scores-1", build, say)
        first.join()
        assert built == [machine("one") / "scores-1.partial"]
        assert said[0].startswith("waiting for process")
        assert said[0].endswith(f"which is making {URL}/nano/scores-1")

    def test_the_lease_of_a_killed_process_is_taken_over(self, s3, machine):
        dead = {"process": 1, "host": "gone", "nonce": "x", "lease_s": 0.5, "beat": 3}
        s3.client.put_object(Bucket="results", Key="prefix/nano/.locks/scores-1", Body=json.dumps(dead).encode())
        said: list[str] = []
        make_folder(machine("one") / "scores-1", write, said.append)
        assert said == [f"waiting for process 1 on gone, which is making {URL}/nano/scores-1"]
        assert is_made(machine("two") / "scores-1")

    def test_a_lease_is_renewed_while_its_owner_works(self, s3, machine, monkeypatch):
        monkeypatch.setenv("GIG_LEASE_S", "10")  # a shorter one can end before a busy machine has renewed it
        forget()
        renewed = threading.Event()

        def count(method: str, path: str) -> None:
            puts = [path for method, path in s3.requests if method == "PUT" and path.endswith(".locks/scores-1")]
            if len(puts) > 2:
                renewed.set()

        s3.fault = count
        make_folder(machine("one") / "scores-1", lambda folder: (renewed.wait(300), write(folder)))
        assert renewed.is_set()

    def test_an_owner_that_was_overtaken_stores_nothing(self, s3, machine, monkeypatch):
        monkeypatch.setenv("GIG_LEASE_S", "0.4")
        forget()
        key = "prefix/nano/.locks/scores-1"
        refused = threading.Event()
        monkeypatch.setattr(leases.logger, "warning", lambda *message: refused.set())

        def build(folder: Path) -> None:
            write(folder)
            s3.client.put_object(Bucket="results", Key=key, Body=b"of another process")
            refused.wait(300)

        final = machine("one") / "scores-1"
        with pytest.raises(OutputError, match="this process could not renew its lease"):
            make_folder(final, build)
        assert "prefix/nano/scores-1/.complete" not in s3.objects()
        assert s3.read(key) == b"of another process"

    def test_a_machine_that_comes_second_takes_what_the_first_has_stored(self, s3, machine):
        two = machine("two") / "head-1"

        def build(folder: Path) -> None:
            (folder / "head").write_text("of two")
            with pytest.MonkeyPatch.context() as patch:  # as if the lease were lost and the other one had been faster
                patch.setattr("pipeline.stages.common.outputs.remote_lock", lambda output: None)
                make_folder(machine("one") / "head-1", lambda inner: (inner / "head").write_text("of one"))

        make_folder(two, build)
        fetch_folder(two)
        assert contents(two) == {"head": b"of one"}

    def test_what_an_overtaken_owner_still_put_does_not_mix_with_what_the_owner_stores(self, s3, machine):
        """It was paused after its last look at the lease, and then put a file and its marker."""
        one = machine("one") / "head-1"

        def build(folder: Path) -> None:
            (folder / "head").write_text("of one")

        def interfere(method: str, path: str) -> None:
            if (method, path) == ("PUT", "/results/prefix/nano/head-1/head"):
                s3.after = None
                for name in ("head", ".complete"):
                    s3.client.put_object(Bucket="results", Key=f"prefix/nano/head-1/{name}", Body=b"of another")

        s3.fault = lambda method, path: interfere(method, path) if s3.after else None
        s3.after = lambda method, path: None
        make_folder(one, build)
        fetch_folder(machine("two") / "head-1")
        assert contents(machine("two") / "head-1") == {"head": b"of one"}

    def test_a_server_that_ignores_conditions_is_found_out(self, s3, machine, caplog):
        s3.ignores_conditions = True
        leases._warn_of_no_locks.cache_clear()
        with caplog.at_level(logging.WARNING), locked(machine("one") / "scores-1"):
            pass
        assert "has no puts under a condition, so nothing is locked" in caplog.text
        make_folder(machine("one") / "scores-1", write)
        fetch_folder(machine("two") / "scores-1")
        assert contents(machine("two") / "scores-1") == MADE

    def test_a_video_that_another_machine_extracts_is_left_to_it(self, s3, machine):
        with Claims(machine("one").parent, "ns") as one, Claims(machine("two").parent, "ns") as two:
            assert (one.take("v1"), two.take("v1"), two.take("v2"), one.take("v2")) == (True, False, True, False)
            s3.requests.clear()
            assert one.take("v3")
            one.release("v3")
            assert [method for method, _ in s3.requests] == ["PUT", "DELETE"]
            one.release("v1")
            assert two.take("v1")


class TestPlaces:
    def test_a_path_tells_which_url_it_mirrors(self, tmp_path):
        root = mirror_folder(tmp_path, URL)
        assert root.parent == tmp_path
        assert place_of(root / "nano" / "head-1") == f"{URL}/nano/head-1"
        assert mirrored(tmp_path / "s3:" / "head") is mirrored(tmp_path / "100%25") is None
        assert place_of(tmp_path / "head") == str(tmp_path / "head")

    def test_the_check_of_a_configuration_tries_the_bucket(self, s3, machine):
        assert check_writable(machine("one")) == f"{URL}: can be written, and has puts under a condition"
        assert s3.objects() == []
        with pytest.raises(CacheError, match="missing/.locks/trial-.* cannot be written: .*bucket does not exist"):
            check_writable(mirror_folder(Path("scratch"), "s3://missing") / "nano")
