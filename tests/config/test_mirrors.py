"""Where results are stored: what a configuration can say, and which folder of this machine stands for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import parse_experiment
from pipeline.config.mirrors import copy_of, mirror_folder, output_place, url_of_mirror
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("var", Path("var")),
        (Path("var"), Path("var")),
        ("s3://bucket/a/", "s3://bucket/a"),
        ("memory://x", "memory://x"),
        ("file:///data/x", Path("/data/x")),
    ],
)
def test_a_folder_is_a_path_and_a_url_stays_one(given, place):
    assert output_place(given) == place


@pytest.mark.parametrize("url", ["s3://bucket/a b/ü", "gs://b", "s3://bucket/" + "a" * 200])
def test_the_name_of_a_mirror_is_one_folder_that_tells_its_url(url):
    folder = mirror_folder(Path("scratch"), url)
    assert folder.parent == Path("scratch")
    assert url_of_mirror(folder.name) == url


@pytest.mark.parametrize("name", ["s3:", "100%25", "a%2Fb", "s3%3A%2Fbucket", "var", "%3A%2F%2F", "S3%3a%2F%2Fx"])
def test_other_names_are_no_mirrors(name):
    assert url_of_mirror(name) is None


def test_a_url_whose_mirror_would_have_too_long_a_name_is_refused(nano):
    nano["paths"]["output"] = "s3://bucket/" + "ü" * 50
    with pytest.raises(ConfigError, match="paths.output: expected a URL that, with its special characters escaped"):
        parse_experiment(nano)


def test_results_lie_in_the_mirror_of_their_url(nano):
    nano["paths"] = {"output": "s3://bucket/x", "scratch": "/fast"}
    assert parse_experiment(nano).paths.folder == Path("/fast/s3%3A%2F%2Fbucket%2Fx")
    nano["paths"] = {"output": "out"}
    assert parse_experiment(nano).paths.folder == Path("out")


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/a", "s3:///a/b", "s3://bucket//b"])
def test_what_cannot_be_an_output_has_no_copy(url):
    assert copy_of(url, Path("scratch")) is None


def test_the_copy_of_an_output_lies_where_its_experiment_keeps_it():
    copy = copy_of("s3://bucket/x/nano/head-1", Path("scratch"))
    assert copy == mirror_folder(Path("scratch"), "s3://bucket/x") / "nano" / "head-1"


@pytest.mark.parametrize("key", ["output", "cache"])
def test_a_url_with_a_password_is_refused_and_not_repeated(nano, key):
    nano["paths"] = {key: "ftp://me:secret@host/results"}
    with pytest.raises(ConfigError, match=r"no password in it.*got ftp://host/results and more") as refused:
        parse_experiment(nano)
    assert "secret" not in str(refused.value)
    nano["paths"] = {key: "sftp://me@host/results"}
    parse_experiment(nano)
