"""A long video needs no more memory than a short one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Extracts with a stub in place of the backbone, scores with a trained head's equations, prints peak memory in bytes.
MAIN = """
import json, re, sys
from pathlib import Path
import torch
from cache import FeatureStore
from pipeline.config import Scoring, load_experiment
from pipeline.models.reduction import Standardizer
from pipeline.stages.extract import Extractor
from pipeline.stages.sources import experiment_workers
from pipeline.stages.score import score_video
from pipeline.stages.train import TrainedHead, make_head

class Stub(torch.nn.Module):
    name, channels, weights_sha256 = "stub", 2048, "stub"

    def frames(self, images):
        return images[:, :16, :16].permute(0, 3, 1, 2).float()

    def clips(self, frames):
        level = frames.mean(dim=(0, 2, 3, 4))[:, None, None, None]
        return torch.relu(level * torch.rand(1, 7, 7, 2048) - level / 2)

def peak(process="self"):
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path(f"/proc/{process}/status").read_text())[1]) * 1024

experiment, video = load_experiment(sys.argv[1]), Path(sys.argv[2])
store = FeatureStore.open(experiment.paths.cache)
extractor = Extractor(experiment, Stub())
before = peak()
with experiment_workers(experiment) as workers:
    (outcome,) = extractor.extract([("long", video)], "test", store, "ns", workers)
    worker = peak(workers.processes()[0].pid)
frames = outcome.frames
settings = experiment.run("gig").head
head = make_head(settings, experiment.training, 2048, 3).eval()
statistics = Standardizer(torch.zeros(2048), torch.ones(2048), 0.0)
scores = score_video(store, "ns", "long", TrainedHead(head, settings, statistics, ("a", "b", "c")), Scoring())
facts = {"frames": frames, "rows": len(scores.frames), "windows": len(scores.windows)}
print(json.dumps(facts | {"before": before, "process": peak(), "worker": worker}))
"""


@pytest.mark.slow
def test_a_video_of_ten_thousand_frames_stays_within_a_gibibyte_and_a_half(nano, write_config, make_video, tmp_path):
    video = make_video(frames=10_000, width=340, height=256)
    nano["test_sampling"] = {"stride_frames": 3}
    config = write_config(nano)
    process = subprocess.run(
        [sys.executable, "-c", MAIN, str(config), str(video)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(process.stdout)
    assert (found["frames"], found["rows"], found["windows"]) == (10_000, 10_000, 3333)
    workers = 2
    assert found["process"] - found["before"] + workers * found["worker"] < 1.5 * 2**30, found
    print(found)
