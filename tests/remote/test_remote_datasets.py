"""Data sets below a URL: the adapters list what they list on a disk, and digests change with the objects."""

from __future__ import annotations

import pytest
from faulty_storage import URL, FaultyFileSystem
from mock_datasets import MOCKS
from pydantic import TypeAdapter, ValidationError

from pipeline.config import digest, parse_experiment, to_yaml
from pipeline.config.datasets import CsvDataset, Dataset
from pipeline.data.datasets import ADAPTERS, annotation_hashes, listing, training_labels
from pipeline.data.datasets.video_files import video_files
from pipeline.data.duplicates import same_content
from pipeline.data.headers import files_facts
from pipeline.data.manifest import Manifest, load, save
from pipeline.data.problems import Problems
from pipeline.errors import ManifestError, StorageError
from pipeline.remote import Copies, RemotePath, path_of
from pipeline.stages.common.manifest import reached

ROOT = path_of(URL)
VIDEOS = "video_id,path,split,label\nn1,v/n1.mp4,train,Normal\nf1,v/f1.mp4,train,Fire\nt1,v/t1,test,Fire\n"


def upload(folder) -> None:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            FaultyFileSystem().pipe_file(f"{URL}/{file.relative_to(folder).as_posix()}", file.read_bytes())


@pytest.mark.parametrize("name", MOCKS)
def test_an_adapter_lists_below_a_url_what_it_lists_on_a_disk(name, mock, tmp_path, faulty):
    local = mock(name)
    upload(tmp_path / "data")
    remote = TypeAdapter(Dataset).validate_python(local.model_dump() | {"root": URL})
    adapter = ADAPTERS[name]

    def listed(dataset):
        problems, notes = Problems(), []
        videos = adapter.read_videos(dataset, problems)
        intervals = adapter.read_intervals(dataset, videos, problems, notes)
        return [(v.video_id, v.path, v.split, v.labels, v.source, v.stated_frames) for v in videos], [
            i.interval for i in intervals
        ]

    assert listed(remote) == listed(local)
    assert annotation_hashes(remote) == annotation_hashes(local)
    assert training_labels(remote) == training_labels(local)
    assert [row[:4] for row in listing(remote)] == [row[:4] for row in listing(local)]


@pytest.fixture
def dataset(stored):
    """A CSV data set of two files and a folder of two images below a URL."""
    stored("videos.csv", VIDEOS.encode())
    for name, content in (("v/n1.mp4", b"one"), ("v/f1.mp4", b"other"), ("v/t1/1.jpg", b"a"), ("v/t1/2.jpg", b"bc")):
        stored(name, content)
    return CsvDataset(adapter="csv", name="mine", root=URL, classes=("Fire",))


def test_the_digest_changes_with_any_object(dataset, stored):
    before = digest(listing(dataset))
    assert digest(listing(dataset)) == before
    for name in ("v/n1.mp4", "v/t1/2.jpg"):
        stored(name, b"xyz"[: 3 - name.count(".jpg")])
        after = digest(listing(dataset))
        assert after != before
        before = after
    assert [row[3] for row in listing(dataset)] == [3, 5, 3]


def test_the_videos_are_listed_by_one_request_and_not_one_by_one(dataset, faulty):
    faulty.requests.clear()
    listing(dataset)
    assert (faulty.requests["read"], faulty.requests["look"]) == (1, 0)


def test_a_video_that_is_not_there(dataset, faulty):
    faulty().rm(f"{URL}/v/f1.mp4")
    assert [row[3:] for row in listing(dataset)][1] == (-1, -1)
    assert files_facts([ROOT / "v/f1.mp4"]) == [(-1, -1)]


def test_one_listing_and_one_look_tell_the_same(dataset):
    paths = [ROOT / "v/n1.mp4", ROOT / "v/t1"]
    assert files_facts(paths) == [files_facts([path])[0] for path in paths]


def test_lists_may_lie_on_this_machine(dataset, tmp_path):
    (tmp_path / "mine.csv").write_text(VIDEOS.replace("f1,v/f1", "f2,v/f1"))
    local_list = dataset.model_copy(update={"videos": tmp_path / "mine.csv"})
    assert [row[0] for row in listing(local_list)] == ["n1", "f2", "t1"]
    assert annotation_hashes(local_list)[1][0][0] == "mine.csv"


def test_a_storage_that_fails_is_no_missing_file(dataset, faulty):
    def refuse(kind: str) -> None:
        raise PermissionError("Forbidden")

    faulty.before = refuse
    with pytest.raises(StorageError, match="check the credentials"):
        listing(dataset)
    with pytest.raises(StorageError):
        files_facts([ROOT / "v/n1.mp4"])


def test_hidden_and_ignored_names_are_passed_over(stored):
    for name in ("a.mp4", ".b.mp4", "skip/c.mp4", "d.txt", "f/1.jpg", "f/notes.txt", "g/e.MKV"):
        stored(name, b"x")
    passed: list[RemotePath] = []
    found = video_files(ROOT, Problems(), ("skip",), passed.append)
    assert [path.below for path in found] == ["a.mp4", "f", "g/e.MKV"]
    assert sorted(path.below for path in passed) == [".b.mp4", "d.txt", "f/notes.txt", "skip/c.mp4"]


def test_videos_of_the_same_content_are_found(stored):
    paths = [stored("a.mp4", b"same"), stored("b.mp4", b"same"), stored("c.mp4", b"else")]
    assert same_content(paths, [4, 4, 4]) == [[0, 1]]


def test_a_manifest_keeps_its_url(tmp_path, manifest):
    save(Manifest(ROOT, manifest.classes, manifest.videos, manifest.intervals), tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.root == ROOT
    assert again.video_path("n1") == ROOT / "n1.mp4"


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("s3:/bucket/videos", "a URL such as s3://bucket/folder"),
        ("ftp://me:secret@host/a", "no user, password"),
        (3, "path"),
    ],
)
def test_roots_that_are_none(root, message):
    with pytest.raises(ValidationError, match=message):
        CsvDataset(adapter="csv", name="mine", root=root, classes=("Fire",))


def test_a_list_is_below_the_root_or_on_this_machine():
    with pytest.raises(ValidationError, match="an absolute one of this machine, got one on s3"):
        CsvDataset(adapter="csv", name="mine", root=URL, classes=("Fire",), videos="s3://bucket/videos.csv")


def test_copies_are_made_where_the_machine_asks_for_them(nano, tmp_path):
    nano["dataset"] = {"adapter": "csv", "name": "mine", "root": URL, "classes": ["Fire"]}
    experiment = parse_experiment(nano)
    assert reached(ROOT, experiment).copies is None
    nano["machine"] |= {"video_copies": str(tmp_path / "copies"), "video_copies_gb": 2}
    copying = parse_experiment(nano)
    assert reached(ROOT, copying).copies == Copies(tmp_path / "copies", 2_000_000_000)
    assert (reached(ROOT, copying) / "v.mp4").copies is not None
    assert reached(tmp_path, copying) == tmp_path
    assert digest(copying.dataset) == digest(experiment.dataset)


def test_a_root_is_written_and_read_as_its_url(nano):
    nano["dataset"] = {"adapter": "csv", "name": "mine", "root": f"{URL}/", "classes": ["Fire"]}
    experiment = parse_experiment(nano)
    assert f"root: {URL}\n" in to_yaml(experiment)
    assert parse_experiment(experiment.model_dump(mode="json")) == experiment


def test_a_root_that_is_not_there_is_a_problem(faulty):
    from pipeline.data.datasets import build

    dataset = CsvDataset(adapter="csv", name="mine", root="faulty://bucket/nowhere", classes=("Fire",))
    with pytest.raises(ManifestError, match="no such folder: faulty://bucket/nowhere, or nothing lies in it"):
        build(dataset)
