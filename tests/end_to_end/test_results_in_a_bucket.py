"""Results and cache in a bucket are those of a local run, whoever makes them, and whole, whoever is killed."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import s3fs
import yaml
from conftest import NANO
from faulty_s3 import KEYS, S3Server, serving
from places import ROOT

from cache.errors import CacheError
from pipeline.config import load_experiment
from pipeline.config.mirrors import mirror_folder
from pipeline.stages.common import bucket, leases
from pipeline.stages.common.outputs import make_folder
from pipeline.stages.common.recipes import Recipes

pytestmark = pytest.mark.slow


def configuration(path: Path, **paths: str) -> Path:
    data = copy.deepcopy(NANO) | {"runs": {"gig": {}}, "paths": paths}
    path.write_text(yaml.safe_dump(data))
    return path


def start(config: Path, url: str, *command: str) -> subprocess.Popen:
    """Start a command, by default EvaluateAll, of which dead owners lose their leases soon."""
    command = command or ("-m", "luigi", "--module", "tasks", "EvaluateAll")
    environment = os.environ | KEYS | {"AWS_ENDPOINT_URL": url, "GIG_LEASE_S": "6"}
    return subprocess.Popen(
        [sys.executable, *command, "--config", str(config)],
        cwd=config.parent,
        env=environment | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def stored(server: S3Server) -> dict[str, dict[str, bytes]]:
    """The outputs in the bucket by name: of each all files that its marker lists, which are checked."""
    outputs = {}
    for key in server.objects("out/nano/"):
        if key.endswith("/.complete"):
            files = json.loads(server.read(key))["files"]
            found = {name: server.read(f"{key.removesuffix('.complete')}{name}") for name in files}
            assert {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in found.items()} == files
            outputs[key.split("/")[-2]] = found
    return outputs


def results(files: dict[str, bytes]) -> dict[str, bytes]:
    """Those of an output's files that say neither where it lies nor when it was made."""
    here_and_now = ("config.yaml", "manifest.json", "tensorboard/")
    return {
        name: data for name, data in files.items() if not name.startswith(here_and_now) and not name.endswith(".html")
    }


def test_killed_and_then_made_by_two_machines_at_once_the_results_are_those_of_a_local_run(tmp_path):
    local = configuration(tmp_path / "local.yaml", output=str(tmp_path / "var"), cache=str(tmp_path / "cache"))
    process = start(local, "http://127.0.0.1:9")
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    folder = Recipes(load_experiment(local)).folder
    expected = {
        output.name: {
            path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()
        }
        for output in folder.iterdir()
        if output.name.startswith(
            ("manifest-", "head-", "scores-", "operating-point-", "evaluation-", "summary-", "report-")
        )
    }

    with serving() as server:
        configs = [
            configuration(
                tmp_path / f"{name}.yaml", output="s3://results/out", cache="s3://results/cache", scratch=name
            )
            for name in ("one", "two", "three")
        ]
        killed = start(configs[0], server.url)
        for line in killed.stdout:
            if "running   TrainHead" in line:
                break
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert {name.rsplit("-", 1)[0] for name in stored(server)} <= {"manifest", "head-gig"}

        both = [start(config, server.url) for config in configs[1:]]
        said = [process.communicate()[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], said
        assert f"page: s3://results/out/nano/{max(name for name in expected if name.startswith('report'))}" in said[0]
        assert "Traceback" not in said[0] + said[1]

        outputs = stored(server)
        assert outputs.keys() == expected.keys()
        for name, files in outputs.items():
            assert results(files) == results(expected[name]), name
        pages = [name for name in expected if name.startswith("report-")]
        assert [outputs[name].keys() for name in pages] == [expected[name].keys() for name in pages]
        assert [key for key in server.objects() if "/.locks/" in key] == []

        report = start(configs[0], server.url, "-c", "from pipeline.cli.main import main; main()", "report")
        printed, _ = report.communicate()
        assert (
            f"results: s3://results/out/nano/{max(name for name in outputs if name.startswith('summary'))}" in printed
        )
    assert not list(tmp_path.rglob("s3:"))


def test_a_server_that_is_killed_is_an_error_and_what_was_made_is_kept(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "faulty_s3.py"), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert server.stdout.readline() == b"serving\n"
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_MAX_ATTEMPTS": "2"}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket._bucket.cache_clear()
    leases._leases.cache_clear()
    final = mirror_folder(tmp_path, "s3://results/out") / "nano" / "head-1"

    def build(folder: Path) -> None:
        (folder / "head").write_text("trained for hours")
        server.kill()
        server.wait()

    try:
        with pytest.raises(CacheError, match=f"results/out/nano/head-1/.* cannot be .*127.0.0.1:{port}"):
            make_folder(final, build)
        assert (final / "head").read_text() == "trained for hours"
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        bucket._bucket.cache_clear()
        leases._leases.cache_clear()
