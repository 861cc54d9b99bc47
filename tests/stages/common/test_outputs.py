"""Output folders appear whole or not at all, finished files survive an error, and one process works at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.stages.common import outputs
from pipeline.stages.common.outputs import keep_if_made_from, locked, make_folder, try_lock, whole_file


def write(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text)


class TestErrors:
    def test_what_was_finished_is_there_at_the_next_try_and_nothing_half_written(self, tmp_path):
        final, found = tmp_path / "scores", []

        def build(folder: Path) -> None:
            found.append(sorted(path.name for path in folder.iterdir()))
            write(folder / "first", "done")
            if len(found) == 1:
                with whole_file(folder / "second") as partial:
                    partial.write_text("half")
                    raise MemoryError("CUDA out of memory")
            write(folder / "second", "done")

        with pytest.raises(MemoryError):
            make_folder(final, build)
        assert not final.exists()
        make_folder(final, build)
        assert found == [[], ["first"]]
        assert sorted(path.name for path in final.iterdir()) == ["first", "second"]

    def test_a_killed_process_s_half_written_file_never_gets_into_the_output(self, tmp_path):
        final = tmp_path / "head"
        partial = tmp_path / "head.partial"
        partial.mkdir()
        (partial / "checkpoint.pt.partial").write_text("half")
        make_folder(final, lambda folder: (folder / "weights").write_text("whole"))
        assert [path.name for path in final.iterdir()] == ["weights"]

    def test_an_error_before_anything_is_finished_leaves_nothing(self, tmp_path):
        def build(folder: Path) -> None:
            keep_if_made_from(folder, "inputs")
            (folder / "frames").mkdir()
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(OutputError, match="No space left on device"):
            make_folder(tmp_path / "scores", build)
        assert [path.name for path in tmp_path.iterdir()] == [".locks"]

    def test_files_made_from_other_inputs_are_not_taken_up(self, tmp_path):
        def build(inputs: str, fail: bool) -> list[str]:
            def fill(folder: Path) -> None:
                keep_if_made_from(folder, inputs)
                found.extend(path.name for path in folder.rglob("*.txt"))
                (folder / "tables").mkdir(exist_ok=True)
                write(folder / "tables" / f"{inputs}.txt", inputs)
                if fail:
                    raise ValueError("broken off")

            found: list[str] = []
            if fail:
                with pytest.raises(ValueError):
                    make_folder(tmp_path / "scores", fill)
            else:
                make_folder(tmp_path / "scores", fill)
            return found

        assert build("one", fail=True) == []
        assert build("one", fail=True) == ["one.txt"]
        assert build("two", fail=False) == []
        assert [path.relative_to(tmp_path / "scores").as_posix() for path in (tmp_path / "scores").rglob("*")] == [
            "tables",
            "tables/two.txt",
        ]


class TestLocks:
    def test_a_lock_is_held_by_one_and_leaves_no_file(self, tmp_path):
        with locked(tmp_path / "head"), try_lock(tmp_path / "head") as held:
            assert not held
        with try_lock(tmp_path / "head") as held:
            assert held
        assert list((tmp_path / ".locks").iterdir()) == []

    def test_who_waits_is_told_for_whom_and_gets_the_lock_though_its_file_is_removed(self, tmp_path):
        said, order = [], []

        def report(message: str) -> None:
            said.append(message)
            told.set()

        def second() -> None:
            with locked(tmp_path / "head", report, "the head"):
                order.append("second")

        told = threading.Event()
        with locked(tmp_path / "head"):
            thread = threading.Thread(target=second)
            thread.start()
            assert told.wait(300)
            order.append("first")
        thread.join(300)
        assert order == ["first", "second"]
        assert said[0].startswith(f"waiting for process {os.getpid()} on ")
        assert said[0].endswith("which is making the head")

    def test_an_error_of_a_missing_file_in_the_block_is_passed_on(self, tmp_path):
        with pytest.raises(OutputError, match="nowhere"), locked(tmp_path / "head"):
            (tmp_path / "nowhere").read_text()

    @pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP])
    def test_a_file_system_without_locks_works_with_one_warning(self, tmp_path, monkeypatch, code):
        def refuse(*arguments: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", refuse)
        monkeypatch.setattr(outputs, "_without_locks", set())
        said = []
        for name in ("one", "two"):
            make_folder(tmp_path / name, lambda folder: (folder / "file").write_text("whole"), said.append)
            assert (tmp_path / name / "file").read_text() == "whole"
        (warning,) = said
        assert warning.startswith(f"warning: {tmp_path}/.locks: this file system has no locks")

    def test_another_error_of_a_lock_is_an_error(self, tmp_path, monkeypatch):
        def refuse(*arguments: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(fcntl, "flock", refuse)
        with pytest.raises(OutputError, match="Input/output error"), locked(tmp_path / "head"):
            pass
