"""A long video needs no more memory than a short one: what benchmarks/memory.py measures at other sizes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from places import ROOT

SCRIPT = ROOT / "benchmarks" / "memory.py"


@pytest.mark.slow
def test_a_video_of_ten_thousand_frames_stays_within_a_gibibyte_and_a_half(tmp_path):
    out = tmp_path / "memory.json"
    options = "--size", "340x256", "--frames", "10000", "--out", str(out)
    subprocess.run([sys.executable, str(SCRIPT), *options], check=True)
    (found,) = json.loads(out.read_text())["videos"]
    assert (found["frames"], found["rows"], found["windows"]) == (10_000, 10_000, 3333)
    assert found["decoders_bytes"]
    assert found["process_bytes"] + sum(found["decoders_bytes"]) < 1.5 * 2**30, found
