"""A bucket for results behind a server that can be made to fail, and machines that share it: fixtures and an output.

A test module imports the fixtures that it needs.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import s3fs
from faulty_s3 import KEYS, serving

from pipeline.config.mirrors import mirror_folder
from pipeline.stages.common import bucket, leases

URL = "s3://results/prefix"


def forget(address: bool = False) -> None:
    """Forget what this process knows of buckets, and where they are."""
    if address:
        s3fs.S3FileSystem.clear_instance_cache()
    bucket._bucket.cache_clear()
    leases._leases.cache_clear()


@pytest.fixture(scope="module")
def server():
    forget(address=True)
    with serving() as server:
        yield server
    forget(address=True)


@pytest.fixture
def s3(server, monkeypatch):
    """The server, with an empty bucket and no faults."""
    server.reset()
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": server.url, "AWS_MAX_ATTEMPTS": "2"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.retryhandler.delay_exponential", lambda *arguments, **options: 0)
    forget()
    yield server
    server.fault = server.after = None
    forget()


@pytest.fixture
def machine(tmp_path):
    """The folder of the experiment on a machine, which is known by its name."""
    return lambda name: mirror_folder(tmp_path / name, URL) / "nano"


def write(folder: Path) -> None:
    (folder / "frames").mkdir(exist_ok=True)
    (folder / "frames" / "v1.parquet").write_bytes(b"scores")
    (folder / "index.html").write_text("<p>page</p>")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MADE = {"frames/v1.parquet": b"scores", "index.html": b"<p>page</p>"}
