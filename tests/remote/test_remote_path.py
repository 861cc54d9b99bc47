"""Paths of a storage: their parts, what lies below them, and what texts are one."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from faulty_storage import URL

from pipeline.remote import Copies, Facts, RemotePath, looked_up, path_of
from pipeline.remote import path as remote_path
from pipeline.remote.storage import file_system


def test_the_parts_of_a_path():
    root = path_of("s3://bucket/sets/")
    path = root / "test/a.b.mp4"
    assert (str(path), path.name, path.stem, path.suffix) == ("s3://bucket/sets/test/a.b.mp4", "a.b.mp4", "a.b", ".mp4")
    assert path.parent == root / "test"
    assert path.relative_to(root).as_posix() == "test/a.b.mp4"
    assert path.is_relative_to(root)
    assert not root.is_relative_to(path)
    assert root / "." == root


def test_an_absolute_path_below_a_url_is_of_this_machine():
    assert path_of("s3://bucket/sets") / "/lists/videos.csv" == Path("/lists/videos.csv")


def test_a_path_can_be_sent_to_another_process_and_takes_no_open_storage_along(stored):
    path = stored("a.mp4", b"content").kept_in(Copies(Path("/copies"), 5))
    assert path.exists()
    again = pickle.loads(pickle.dumps(path))
    assert (again, again.copies) == (path, path.copies)
    assert set(vars(again)) == {"root", "below", "copies"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data/videos", Path("data/videos")),
        ("file:///data/videos", Path("/data/videos")),
        ("s3://bucket/a", RemotePath("s3://bucket/a")),
        ("C", Path("C")),
    ],
)
def test_which_texts_are_urls(text, expected):
    assert path_of(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3:/bucket/a", "a URL such as s3://bucket/folder, got 's3:/bucket/a'"),
        ("s3://", "a URL such as s3://bucket/folder, got 's3://'"),
        ("simplecache::s3://bucket/a", "a chain: simplecache::"),
        ("zip://a.zip::s3://me:secret@bucket", "a chain: zip://a.zip::"),
        ("ftp://me:secret@host/a", "no user, password or signature"),
        ("https://host/a?X-Amz-Signature=secret", "no user, password or signature"),
    ],
)
def test_texts_that_are_neither_paths_nor_urls(text, message):
    with pytest.raises(ValueError, match=message) as error:
        path_of(text)
    assert "secret" not in str(error.value)


def test_what_lies_in_a_folder(stored):
    for name in ("f/2.jpg", "f/10.jpg", "f/sub/1.jpg", "v.mp4"):
        stored(name, b"x" * len(name))
    root = path_of(URL)
    assert [path.name for path in (root / "f").iterdir()] == ["10.jpg", "2.jpg", "sub"]
    assert [path.is_dir() for path in (root / "f").iterdir()] == [False, False, True]
    assert [path.name for path in root.glob("*.mp4")] == ["v.mp4"]
    assert list((root / "nowhere").glob("*")) == []
    assert {name: facts.st_size for name, facts in root.files().items()} == {
        "f/10.jpg": 8,
        "f/2.jpg": 7,
        "f/sub/1.jpg": 11,
        "v.mp4": 5,
    }


def test_what_is_there_and_what_is_not(stored):
    path = stored("f/a.mp4", b"abc")
    assert path.is_file()
    assert not path.is_dir()
    assert path.parent.is_dir()
    assert not (path.parent / "b.mp4").exists()
    assert path.stat().st_size == 3
    with pytest.raises(FileNotFoundError, match=r"b\.mp4: nothing lies there"):
        (path.parent / "b.mp4").stat()


def test_a_listing_spares_further_requests(stored, faulty):
    stored("f/a.jpg", b"abc")
    images = list((path_of(URL) / "f").iterdir())
    faulty.requests.clear()
    assert [(image.is_file(), image.stat().st_size) for image in images] == [(True, 3)]
    assert not faulty.requests


def test_one_listing_tells_of_many_paths(stored, faulty):
    paths = [
        stored("v/a.mp4", b"abc"),
        stored("v/f/1.jpg", b"x").parent,
        path_of(URL) / "v/none.mp4",
        Path("local.mp4"),
    ]
    faulty.requests.clear()
    told = looked_up(paths)
    assert told == paths
    assert [path.is_dir() for path in told[:2]] == [False, True]
    assert told[0].stat().st_size == 3
    assert faulty.requests["look"] == 0
    assert not told[2].exists()


def test_a_forked_process_opens_the_storage_anew(stored, monkeypatch):
    path = stored("a.mp4", b"abc")
    opened = []
    monkeypatch.setattr(remote_path, "file_system", lambda url: opened.append(url) or file_system(url))
    path.system(), path.system()
    monkeypatch.setattr("os.getpid", lambda: 1)
    path.system()
    assert len(opened) == 2


def test_the_version_is_the_etag_before_anything_else():
    assert Facts.of({"size": 3, "type": "file", "ETag": '"abc"', "LastModified": "now"}) == Facts(3, "abc")
    assert Facts.of({"size": 0, "type": "directory"}) == Facts(0, "", folder=True)
    assert Facts.of({"size": 3, "type": "file"}).version == ""


def test_the_version_of_a_folder_changes_with_any_of_its_files(stored):
    stored("f/1.jpg", b"one")
    stored("f/2.jpg", b"two")
    before = (path_of(URL) / "f").version()
    assert (path_of(URL) / "f").version() == before
    stored("f/2.jpg", b"owt")
    assert (path_of(URL) / "f").version() != before
