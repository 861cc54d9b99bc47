"""Files of a storage: read in blocks, once, and never a mixture of two versions; failures of the storage are said."""

from __future__ import annotations

import hashlib
import re

import pytest
from faulty_storage import URL

from pipeline.errors import StorageError
from pipeline.hashing import file_sha256
from pipeline.remote import Copies, path_of
from pipeline.remote import file as remote_file
from pipeline.remote.storage import when_waiting

CONTENT = bytes(range(256)) * 10


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(remote_file, "MOST_BLOCKS", 4)


def test_any_part_can_be_read(stored):
    path = stored("v.mp4", CONTENT)
    with path.open() as file:
        assert file.read(10) == CONTENT[:10]
        assert file.seek(-700, 2) == len(CONTENT) - 700
        assert file.read() == CONTENT[-700:]
        file.seek(900)
        assert file.read(1200) == CONTENT[900:2100]
        assert file.read(10**6) == CONTENT[2100:]
        assert file.read(1) == b""
    assert path.read_bytes() == CONTENT
    assert file_sha256(path) == hashlib.sha256(CONTENT).hexdigest()


def test_a_file_that_is_read_again_is_not_fetched_again(stored, faulty):
    path = stored("v.mp4", CONTENT)
    for _ in range(3):
        with path.open() as file:
            assert file.read() == CONTENT
    assert faulty.requests["read"] == 3


def test_a_hash_needs_no_block_that_came_by_before(stored, faulty):
    content = CONTENT * 4  # of more blocks than are kept
    path = stored("v.mp4", content)
    with path.open() as file:
        file.seek(-100, 2)
        file.read()  # as of an MP4 whose index is at its end
        file.seek(0)
        file.read(9500)
    faulty.requests.clear()
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()
    assert faulty.requests["read"] <= 2
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()
    assert file_sha256(stored("v.mp4", content[::-1])) == hashlib.sha256(content[::-1]).hexdigest()


def test_a_hash_that_is_dropped_for_those_of_other_files_is_finished(stored, monkeypatch):
    monkeypatch.setattr(remote_file, "MOST_HASHES", 0)
    assert file_sha256(stored("v.mp4", CONTENT)) == hashlib.sha256(CONTENT).hexdigest()


def test_pieces_of_two_versions_are_found_out_when_two_readers_fetched_them(stored):
    path = stored("v.mp4", CONTENT[:1900])
    with path.open() as file:
        file.read(10)
        file._next = None  # what is on its way is not used
    stored("v.mp4", CONTENT[-1900:])
    other = path.open()
    other.seek(1500)
    other.read()
    with pytest.raises(StorageError, match="was replaced by another version"):
        other.close()


def test_blocks_are_kept_in_bounded_number(stored):
    for name in "abcd":
        with stored(name, CONTENT).open() as file:
            file.read()
    assert len(remote_file._kept) <= 4


def test_a_small_file_takes_one_look_and_one_read(stored, faulty):
    path = stored("1.jpg", b"picture")
    faulty.requests.clear()
    with path.open() as file:
        assert file.read() == b"picture"
    assert faulty.requests == {"look": 1, "read": 1}


def test_a_passing_failure_is_tried_again(stored, faulty):
    path = stored("v.mp4", CONTENT)
    failures = iter([OSError("500 Internal Server Error"), ConnectionError("refused")])

    def fail(kind: str) -> None:
        if kind == "read" and (error := next(failures, None)):
            raise error

    faulty.before = fail
    with path.open() as file:
        assert file.read() == CONTENT


def test_a_lasting_failure_is_that_of_the_storage(stored, faulty):
    path = stored("v.mp4", CONTENT)

    def fail(kind: str) -> None:
        if kind == "read":
            raise OSError("503 Slow Down, url=https://host/?signature=secret")

    faulty.before = fail
    with pytest.raises(StorageError, match=re.escape("v.mp4: cannot be read: OSError: 503 Slow Down")) as error:
        path.open().read()
    assert "secret" not in str(error.value)
    assert not isinstance(error.value, OSError)


def test_refused_access_is_said_and_not_tried_again(stored, faulty):
    path = stored("v.mp4", CONTENT)

    def refuse(kind: str) -> None:
        raise PermissionError("Forbidden")

    faulty.before = refuse
    faulty.requests.clear()
    with pytest.raises(StorageError, match="refuses access: Forbidden; check the credentials"):
        path.exists()
    assert faulty.requests["look"] == 1


def test_a_silent_storage_ends_in_an_error_and_the_wait_is_told(stored, faulty, monkeypatch):
    path = stored("v.mp4", CONTENT)
    assert path.exists()
    monkeypatch.setenv("GIG_VIDEOS_TIMEOUT_S", "2")
    monkeypatch.setattr("pipeline.remote.storage.SIGN_S", 0.05)
    faulty.before = lambda kind: faulty.ended.wait()
    signs: list[int] = []
    when_waiting(lambda: signs.append(1))
    try:
        with pytest.raises(StorageError, match=r"v\.mp4: no answer within 2 s \(GIG_VIDEOS_TIMEOUT_S"):
            path.open().read()
    finally:
        when_waiting(lambda: None)
    assert signs


def test_a_storage_that_gives_up_without_a_word(stored, faulty):
    """Such as asyncio's TimeoutError, which has no message."""
    path = stored("v.mp4", CONTENT)
    assert path.exists()

    def give_up(kind: str) -> None:
        raise TimeoutError

    faulty.before = give_up
    with pytest.raises(StorageError, match=r"v\.mp4: TimeoutError"):
        path.open().read()


def test_a_file_that_is_replaced_while_it_is_read(stored):
    path = stored("v.mp4", CONTENT)
    file = path.open()
    file.read(1500)
    stored("v.mp4", CONTENT[::-1])
    file.read()
    with pytest.raises(StorageError, match="was replaced by another version while it was read"):
        file.close()
    assert not remote_file._kept


def test_a_file_that_is_shortened_or_removed_while_it_is_read(stored, faulty):
    path = stored("v.mp4", CONTENT)
    file = path.open()
    file.read(10)
    stored("v.mp4", CONTENT[:1200])
    with pytest.raises(StorageError, match="was replaced by another version"):
        file.read()
    file = stored("w.mp4", CONTENT).open()
    file.read(10)
    faulty().rm(f"{URL}/w.mp4")
    file.seek(2300)
    with pytest.raises(StorageError, match="was removed while it was read"):
        file.read()


def test_a_failure_that_the_reader_took_for_the_end_is_found_when_the_file_is_closed(stored, faulty):
    path = stored("v.mp4", CONTENT)

    def fail(kind: str) -> None:
        raise OSError("gone")

    file = path.open()
    faulty.before = fail
    with pytest.raises(StorageError):
        file.read()
    with pytest.raises(StorageError, match="gone"):
        file.close()


def test_copies_are_made_once_and_bounded(stored, faulty, tmp_path):
    copies = Copies(tmp_path / "copies", 3000)
    first = stored("a.mp4", CONTENT)
    for _ in range(2):
        with first.kept_in(copies).open() as file:
            assert file.read() == CONTENT
            assert file.seek(5) == 5
            assert file.read(3) == CONTENT[5:8]
    assert faulty.requests["read"] == 3
    (kept,) = (tmp_path / "copies").iterdir()
    assert (kept.suffix, kept.read_bytes()) == (".mp4", CONTENT)
    with stored("b.mp4", CONTENT[::-1]).kept_in(copies).open() as file:
        assert file.read() == CONTENT[::-1]
    assert [copy.read_bytes() == CONTENT[::-1] for copy in (tmp_path / "copies").iterdir()] == [True]
    with stored("large.mp4", CONTENT * 2).kept_in(copies).open() as file:
        assert file.read() == CONTENT * 2
    assert len(list((tmp_path / "copies").iterdir())) == 1


def test_a_file_that_has_changed_has_another_copy(stored, tmp_path):
    copies = Copies(tmp_path / "copies", 10**6)
    for content in (CONTENT, CONTENT[::-1]):
        with stored("a.mp4", content).kept_in(copies).open() as file:
            assert file.read() == content


def test_a_storage_that_nothing_knows():
    with pytest.raises(StorageError, match="nosuch://bucket/a: expected a URL of a storage that fsspec knows"):
        path_of("nosuch://bucket/a").exists()


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_a_limit_that_is_no_number_of_seconds(monkeypatch, stored, text):
    monkeypatch.setenv("GIG_VIDEOS_TIMEOUT_S", text)
    with pytest.raises(StorageError, match=f"GIG_VIDEOS_TIMEOUT_S: expected a positive number .* got '{text}'"):
        stored("a", b"x").exists()
