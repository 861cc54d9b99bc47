"""Videos of an S3 server are decoded as those of a disk, by processes that know but a URL."""

from __future__ import annotations

import itertools
import socket
import time
from dataclasses import replace
from pathlib import Path

import boto3
import numpy as np
import pytest
from mock_datasets import write_images

from pipeline.data.decoding.decode import content_sha256, iter_frames, read_header
from pipeline.data.decoding.messages import Job, Source
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.headers import read_headers
from pipeline.errors import DecodeError, StorageError
from pipeline.remote import RemotePath, path_of
from pipeline.remote import file as remote_file
from pipeline.stages.clips.cut import CutJob, Window
from pipeline.stages.clips.process import in_process
from pipeline.stages.report.playing import find_media


@pytest.fixture
def uploaded(s3_bucket, tmp_path):
    """Put a file or folder into the bucket; returns its path there."""
    remote_file._kept.clear()
    client, bucket = boto3.client("s3"), s3_bucket.removeprefix("s3://")

    def put(path: Path) -> RemotePath:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            client.upload_file(str(file), bucket, f"videos/{file.relative_to(tmp_path).as_posix()}")
        found = path_of(f"{s3_bucket}/videos") / path.relative_to(tmp_path)
        assert isinstance(found, RemotePath)
        return found

    return put


def frames(path):
    return [(frame.time_s, frame.image) for frame in iter_frames(path)]


def same_frames(one, other) -> bool:
    return len(one) == len(other) and all(
        a == b and np.array_equal(x, y) for (a, x), (b, y) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("block", [4 << 20, 2000])
def test_headers_frames_and_hashes_are_those_of_a_disk(uploaded, make_video, monkeypatch, block):
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", block)
    local = make_video("a b%20[1].mp4", frames=12)
    remote = uploaded(local)
    assert replace(read_header(remote), path=local) == read_header(local)
    assert same_frames(frames(remote), frames(local))
    assert content_sha256(remote) == content_sha256(local)


def test_a_folder_of_images(uploaded, tmp_path):
    write_images(tmp_path / "f1", frames=12)
    local, remote = tmp_path / "f1", uploaded(tmp_path / "f1")
    assert replace(read_header(remote), path=local) == read_header(local)
    assert same_frames(frames(remote), frames(local))
    assert content_sha256(remote) == content_sha256(local)


def test_decoder_processes_read_from_the_store_and_say_what_they_read(uploaded, make_video, tmp_path):
    local = make_video("v.mp4", frames=8)
    remote = uploaded(local)
    with DecodeWorkers(1) as workers:
        for stream in workers.streams([Job(remote)]):
            times, pictures = stream.collect()
            assert (len(times), len(pictures)) == (8, 8)
            assert stream.source == Source(remote.version(), content_sha256(local))
        journal = tmp_path / "headers.jsonl"
        (header,) = read_headers([remote], workers, journal)
        assert journal.read_text().count("v.mp4") == 1
        (again,) = read_headers([remote], workers, journal)
        assert again == header
        assert journal.read_text().count("v.mp4") == 1


@pytest.fixture
def troubled(s3_server, monkeypatch):
    """Has the server answer as a function of the number of the request says: None serves it, a status refuses it."""
    from moto.server import DomainDispatcherApplication

    serve, numbers = DomainDispatcherApplication.__call__, itertools.count()

    def trouble(answer) -> None:
        def call(self, environ, start_response):
            status = answer(next(numbers))
            if status is None:
                return serve(self, environ, start_response)
            start_response(status, [("Content-Type", "text/plain")])
            return [b""]

        monkeypatch.setattr(DomainDispatcherApplication, "__call__", call)

    return trouble


def test_a_server_that_is_slow_and_fails_now_and_then(uploaded, make_video, troubled, monkeypatch):
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 2000)
    local = make_video("v.mp4", frames=12)
    remote = uploaded(local)

    def answer(number: int) -> str | None:
        time.sleep(0.05)
        return "500 Internal Server Error" if number % 3 == 1 else None

    troubled(answer)
    assert same_frames(frames(remote), frames(local))


def test_a_server_that_fails_in_the_middle_of_a_video(uploaded, make_video, troubled, monkeypatch):
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 2000)
    monkeypatch.setenv("GIG_VIDEOS_TIMEOUT_S", "3")
    remote = uploaded(make_video("v.mp4", frames=60))
    troubled(lambda number: "500 Internal Server Error" if number > 2 else None)
    with pytest.raises(StorageError, match=r"v\.mp4: "):
        frames(remote)


def test_a_damaged_video_is_damaged_and_a_missing_one_missing(uploaded, make_video, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(DecodeError, match=r"noise\.mp4: not a video that FFmpeg can open"):
        read_header(uploaded(tmp_path / "noise.mp4"))
    with pytest.raises(DecodeError, match="the file is empty"):
        read_header(uploaded(tmp_path / "empty.mp4"))
    with pytest.raises(DecodeError, match="no such file"):
        read_header(uploaded(make_video("v.mp4")).parent / "w.mp4")


def test_what_a_browser_can_do_with_a_video_of_a_store(stored, faulty, make_video):
    remote = stored("v.mp4", make_video("v.mp4").read_bytes())
    assert find_media(remote).reason == "browsers do not read faulty://"
    assert "h264" in find_media(remote).codec
    assert find_media(remote.parent / "w.mp4").reason == "the file is not where it was"

    def refuse(kind: str) -> None:
        raise PermissionError("Forbidden")

    faulty.before = refuse
    assert "check the credentials" in find_media(remote.parent / "x.mp4").reason


def test_a_playlist_in_a_bucket_reads_no_other_file(uploaded, make_video, tmp_path):
    make_video("v.mp4")
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/v.mp4\n#EXT-X-ENDLIST\n")
    with pytest.raises(DecodeError, match="not a video that FFmpeg can open"):
        read_header(uploaded(tmp_path / "list.m3u8"))


@pytest.fixture
def gone(monkeypatch):
    """From now on processes that are started find no server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("GIG_VIDEOS_TIMEOUT_S", "2")


@pytest.mark.slow
def test_clips_are_cut_from_a_store(uploaded, make_video, tmp_path):
    job = cut_job(uploaded(make_video("v.mp4", frames=20)), tmp_path)
    (made,) = in_process("pipeline.stages.clips.cut:cut", job.path, job, lambda frames: None, lambda text: None)
    assert (made.first_frame, made.frames) == (5, 5)
    assert read_header(made.clip).packets == 5


def test_clips_of_a_store_that_is_gone(gone, tmp_path):
    job = cut_job(path_of("s3://bucket/v.mp4"), tmp_path)
    with pytest.raises(StorageError, match=r"s3://bucket/v\.mp4: "):
        in_process("pipeline.stages.clips.cut:cut", job.path, job, lambda frames: None, lambda text: None)


def cut_job(path, folder: Path) -> CutJob:
    window = Window(5, 10, 0.5, 1.0, 0.7, folder / "clip.mp4", folder / "thumbnail.png")
    return CutJob(path, (window,), 10**6)


def test_a_server_that_is_gone_is_no_fault_of_the_video(gone):
    remote = path_of("s3://bucket/videos/v.mp4")
    with DecodeWorkers(1) as workers, pytest.raises(StorageError, match=r"s3://bucket/videos/v\.mp4: "):
        list(workers.headers([remote]))


@pytest.mark.slow
def test_a_server_that_is_silent_for_longer_than_a_decoder_may_be_is_no_fault_of_the_video(
    uploaded, make_video, monkeypatch
):
    local = make_video("v.mp4")
    remote = uploaded(local)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("GIG_VIDEOS_TIMEOUT_S", "12")
        with DecodeWorkers(1) as workers:
            list(workers.headers([local]))  # its process has started, which may take long
            workers.timeout_s = 9
            with pytest.raises(StorageError, match="no answer within 12 s"):
                list(workers.headers([remote]))


def test_a_storage_that_fails_in_the_middle_of_a_video_is_said_as_that(stored, faulty, make_video, monkeypatch):
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 1000)
    content = make_video("v.mp4", frames=60).read_bytes()
    assert len(content) > 3000
    remote = stored("v.mp4", content)
    number = 0

    def fail(kind: str) -> None:
        nonlocal number
        number += kind == "read"
        if number > 2:
            raise OSError("500 Internal Server Error")

    faulty.before = fail
    with pytest.raises(StorageError, match="500 Internal Server Error"):
        frames(remote)
    with pytest.raises(StorageError, match="500 Internal Server Error"):
        read_header(remote)


def test_a_video_that_is_replaced_while_it_is_decoded(stored, make_video, monkeypatch):
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 1000)
    content = make_video("v.mp4", frames=60).read_bytes()
    remote = stored("v.mp4", content)
    decoded = iter_frames(remote)
    next(decoded)
    stored("v.mp4", content[:-500] + bytes(500))
    with pytest.raises(StorageError, match="was replaced by another version"):
        list(decoded)
