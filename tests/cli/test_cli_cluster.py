"""`gig cluster check`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from clusters import cluster

from pipeline.cli.main import main

pytest.importorskip("distributed")


@pytest.mark.slow
def test_check_lists_every_worker_and_fails_for_one_that_would_get_no_work(nano, write_config):
    with cluster(workers=1) as local:
        nano["machine"] |= {"engine": "dask", "scheduler": local.scheduler_address, "decode_workers": 1}
        words = ["cluster", "check", "--config", str(write_config(nano))]

        good = CliRunner().invoke(main, [*words, "--probe", "1", "--json"])
        assert good.exit_code == 0, good.output
        (worker,) = json.loads(good.stdout)
        assert worker["slots"] == 2
        assert worker["problem"] == ""
        assert {"torch", "av", "numpy", "gig-vad", "weights", "configuration"} <= set(worker["facts"])
        assert (worker["facts"]["videos"], worker["facts"]["cache"]) == ("reached", "reached")
        assert worker["result"]["frames_per_s"] > 0

        nano["machine"]["cluster_resource"] = "picture"
        words = ["cluster", "check", "--config", str(write_config(nano, "other.yaml"))]
        bad = CliRunner().invoke(main, [*words, "--probe", "0"])
        assert bad.exit_code == 1
        assert "0 on 127.0.0.1: it offers {'video': 2}, not 'picture'" in bad.output.replace("2.0", "2")
        assert "1 of 1 worker(s) would get no work" in bad.output


def test_check_asks_for_the_engine(nano, write_config):
    result = CliRunner().invoke(main, ["cluster", "check", "--config", str(write_config(nano))])
    assert result.exit_code == 1
    assert "machine.engine: expected dask, got local" in result.output
