"""What a person names: files, folders, lists and URLs become videos, and what is passed over is told."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.stages.scoring.inputs import find_videos
from pipeline.stages.scoring.sources import RemoteVideo


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(*named: object, **options: object) -> list[str]:
    return [video.name for video in find_videos([str(name) for name in named], **options).videos]


def test_a_folder_is_walked_and_says_what_it_passes_over(tmp_path):
    inbox = tmp_path / "inbox"
    touch(inbox / "a.mp4", inbox / "cam1/a.MKV", inbox / "cam1/notes.txt", inbox / "cam2/1.jpg", inbox / "cam2/2.jpg")
    touch(inbox / ".trash/b.mp4", inbox / "a.jpg", inbox / "cam3/x.mp4", inbox / "cam3/x.png", inbox / "out/index.json")
    found = find_videos([str(inbox)], inbox / "out")
    assert [video.name for video in found.videos] == ["a.mp4", "cam1/a.MKV", "cam2", "cam3/x.mp4"]
    passed = {str(Path(path).relative_to(inbox)) for path in found.passed_over}
    assert passed == {"cam1/notes.txt", ".trash", "a.jpg", "cam3/x.png"}  # pictures beside videos are no video
    assert names(inbox / "a.mp4", inbox / "cam2") == ["a.mp4", "cam2"]


def test_a_folder_of_images_is_one_video(tmp_path):
    touch(tmp_path / "shot/1.jpg", tmp_path / "shot/2.jpg", tmp_path / "shot/masks/1.png")
    found = find_videos([str(tmp_path / "shot")])
    assert [(video.name, video.place) for video in found.videos] == [("shot", str(tmp_path / "shot"))]
    assert found.passed_over == (str(tmp_path / "shot/masks"),)


def test_a_list_names_one_per_line(tmp_path, monkeypatch):
    touch(tmp_path / "a.mp4", tmp_path / "day/b.mp4")
    (tmp_path / "list.txt").write_text(f"# last night\n{tmp_path}/a.mp4\n\n{tmp_path}/day\n{tmp_path}/gone.mp4\n")
    assert names(f"@{tmp_path / 'list.txt'}") == ["a.mp4", "b.mp4", "gone.mp4"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{tmp_path}/a.mp4\n"))
    assert names("@-") == ["a.mp4"]
    with pytest.raises(PipelineError, match=r"none\.txt: the list of videos cannot be read"):
        names("@none.txt")


def test_a_url_of_this_machine_is_a_path(tmp_path):
    touch(tmp_path / "a.mp4")
    (video,) = find_videos([f"file://{tmp_path}/a.mp4"]).videos
    assert video.place == str(tmp_path / "a.mp4")


def test_a_storage_is_walked_like_a_folder():
    import fsspec

    storage = fsspec.filesystem("memory")
    for name in ("a/b#1?.MP4", "a/.hidden/c.mp4", "d.mp4", "e.txt"):
        storage.pipe(f"/walked/{name}", b"1234")
    found = find_videos(["memory://walked", "memory://walked/d.mp4", "memory://walked/none.mp4"])
    assert [(video.name, video.place) for video in found.videos] == [
        ("a/b#1?.MP4", "memory://walked/a/b#1?.MP4"),
        ("d.mp4", "memory://walked/d.mp4"),
        ("d.mp4", "memory://walked/d.mp4"),
    ]
    assert found.passed_over == ("memory://walked/a/.hidden/c.mp4", "memory://walked/e.txt")
    assert found.unreachable == ("memory://walked/none.mp4: nothing lies there",)
    storage.rm("/walked", recursive=True)


@pytest.mark.parametrize("url", ["nowhere://a/b.mp4", "s3:/bucket/a.mp4", "zip://a.mp4::memory://b.zip"])
def test_a_url_that_is_not_supported_says_what_is(url):
    with pytest.raises(PipelineError, match="expected .*URL"):
        find_videos([url])


def test_messages_and_index_hold_no_password_or_signature():
    video = RemoteVideo("a.mp4", "https://user:secret@host:8080/a.mp4?signature=secret#t", 4, None)
    assert video.place == video.given == "https://host:8080/a.mp4"
