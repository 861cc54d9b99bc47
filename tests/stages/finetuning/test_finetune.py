"""Fine-tuning: interrupted and resumed, in two processes, stopped early; what it starts from and what it writes."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import NANO
from places import ROOT

from pipeline.config import parse_experiment
from pipeline.config.finetune import Finetune
from pipeline.errors import ConfigError, OutputError, PipelineError
from pipeline.models.backbone import build_backbone
from pipeline.models.heads import build_head
from pipeline.models.live import LiveModel, unfreeze
from pipeline.stages.common import checkpoints
from pipeline.stages.common.checkpoints import latest_checkpoint, save_checkpoint
from pipeline.stages.common.manifest import build_manifest, load_manifest
from pipeline.stages.common.outputs import INPUTS
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.extraction.extract import extract_split
from pipeline.stages.finetuning.finetune import finetune
from pipeline.stages.finetuning.optimisation import learning_rate_factor, make_optimizer
from pipeline.stages.training.saved_heads import load_head
from pipeline.stages.training.train import train_head

MORE = {"train_normal": 5, "train_per_class": 2, "test_anomalous": 1, "test_normal": 1}


class Bench:
    """A nano experiment up to the frozen head, and fine-tunings of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = copy.deepcopy(NANO) | {"runs": {"gig": {}}, "selection": {"validation_share": 0.4}}
        self.data["dataset"] |= MORE
        self.data["finetune"] = {
            "enabled": True,
            "epochs": 2,
            "batch_bags": 2,
            "unfreeze": "all",
            "backbone_learning_rate": 1e-3,
        }
        self.data["paths"] = {"output": str(folder / "var"), "cache": str(folder / "cache")}
        self.experiment = parse_experiment(self.data)
        self.manifest, self.head = folder / "manifest", folder / "head"
        build_manifest(self.experiment, self.manifest)
        manifest, recipes = load_manifest(self.experiment, self.manifest), Recipes(self.experiment)
        namespace = recipes.namespace("train")
        extract_split(self.experiment, manifest, "train", manifest.split("train"), namespace, recipes.quarantine)
        train_head(self.experiment, "gig", manifest, namespace, self.head)

    def changed(self, **sections: dict):
        return parse_experiment(
            {
                key: value | sections.get(key, {}) if isinstance(value, dict) else value
                for key, value in self.data.items()
            }
        )

    def tune(self, name: str, progress=None, **sections: dict) -> Path:
        folder = self.folder / name
        finetune(self.changed(**sections), self.manifest, [], self.head, folder, progress)
        return folder


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("finetune"))


@pytest.fixture(scope="module")
def unbroken(bench) -> Path:
    return bench.tune("unbroken")


def weights(folder: Path) -> tuple[bytes, bytes, bytes]:
    return tuple((folder / name).read_bytes() for name in ("backbone.safetensors", "head.safetensors", "losses.csv"))


@pytest.mark.slow
class TestFinetune:
    def test_it_trains_backbone_and_head_and_leaves_no_checkpoints(self, bench, unbroken):
        names = {
            "backbone.safetensors",
            "head.safetensors",
            "losses.csv",
            "facts.json",
            "selection.json",
            "config.yaml",
            "tensorboard",
        }
        assert {path.name for path in unbroken.iterdir()} == names | {
            INPUTS
        }  # the note goes when the folder gets its name
        before, after = (
            build_backbone("tpn_tiny", "bundled"),
            build_backbone("tpn_tiny", str(unbroken / "backbone.safetensors")),
        )
        moved = {key for key, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[key])}
        assert moved == {name for name, _ in before.named_parameters()}  # statistics of the norms stay
        start, end = load_head(bench.head / "head.safetensors"), load_head(unbroken / "head.safetensors")
        assert not torch.equal(start.module.phi2.weight, end.module.phi2.weight)
        torch.testing.assert_close(start.standardizer.mean, end.standardizer.mean, rtol=0, atol=0)
        assert end.features == replace(
            start.features, weights_sha256=after.weights_sha256
        )  # those of the tuned backbone
        selection = json.loads((unbroken / "selection.json").read_text())
        assert len(selection["video_auc"]) == 2
        aucs = [selection["frozen_video_auc"], *selection["video_auc"]]
        assert aucs[selection["best_epoch"]] == max(aucs)  # 0 is the frozen stage
        frozen = json.loads((bench.head / "selection.json").read_text())
        assert selection["validation_videos"] == frozen["validation_videos"]
        facts = json.loads((unbroken / "facts.json").read_text())
        assert (facts["videos"], facts["steps"]) == (
            11 - len(selection["validation_videos"]),
            2 * -(-facts["videos"] // 2),
        )

    def test_the_same_again_is_the_same(self, bench, unbroken):
        assert weights(bench.tune("again", machine={"decode_workers": 1})) == weights(unbroken)

    def test_killed_at_any_moment_it_ends_with_the_same_weights(self, bench, unbroken):
        config = bench.folder / "request.json"
        folder = bench.folder / "killed"
        experiment = bench.changed(machine={"checkpoint_steps": 1})
        facts = {
            "experiment": experiment.model_dump(mode="json"),
            "manifest": str(bench.manifest),
            "head": str(bench.head),
        }
        config.write_text(json.dumps(facts | {"folder": str(folder)}))
        script = (  # it kills itself: another process could come too late
            "import json, os, signal, sys, threading; from pathlib import Path\n"
            "from pipeline.config import parse_experiment; from pipeline.stages.finetuning.finetune import finetune\n"
            "steps = 0\n"
            "def progress(done, total, message):\n"
            "    global steps\n"
            "    steps += ', loss ' in message\n"
            "    if steps == int(sys.argv[1]):\n"
            "        threading.Timer(float(sys.argv[2]), os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
            f"f = json.loads(Path({str(config)!r}).read_text())\n"
            "finetune(parse_experiment(f['experiment']), Path(f['manifest']), [], Path(f['head']), Path(f['folder']),\n"
            "         progress)"
        )
        codes = []
        for number, after in enumerate((2, 1, 3, 1, 10**6)):
            command = [sys.executable, "-c", script, str(after), str(0.02 * number)]
            codes.append(subprocess.call(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}))
        assert codes[-1] == 0
        assert codes.count(-signal.SIGKILL) >= 3
        assert weights(folder) == weights(unbroken)

    def test_bags_at_once_and_checkpointing_change_rounding_only(self, bench, unbroken):
        folder = bench.tune("together", machine={"finetune_bags": 2, "activation_checkpointing": True})
        one, two = (load_head(path / "head.safetensors").module.phi2.weight for path in (unbroken, folder))
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)

    def test_two_processes_fit_the_same_model(self, bench, unbroken):
        seen = []
        folder = bench.tune("two", progress=lambda *state: seen.append(state), machine={"processes": 2})
        first, second = ((path / "losses.csv").read_text().splitlines()[1].split(",") for path in (unbroken, folder))
        assert [float(v) for v in second] == pytest.approx([float(v) for v in first], rel=1e-3)
        assert any("loss" in message for _, _, message in seen)
        assert json.loads((folder / "facts.json").read_text())["processes"] == 2

    def test_a_process_that_dies_ends_the_run_with_an_error(self, bench):
        killed: list[float] = []

        def kill(done: int, total: int, message: str) -> None:
            if done == 1:
                killed.append(time.monotonic())
                ours = f"finetuning.finetune {re.escape(str(bench.folder))}/dying"  # of no other run of this test
                found = subprocess.run(["pgrep", "-f", ours], capture_output=True, text=True).stdout.split()
                workers = [
                    pid
                    for pid in map(int, found)
                    if "torch.distributed.run" not in Path(f"/proc/{pid}/cmdline").read_text()
                ]
                os.kill(max(workers), signal.SIGKILL)

        with pytest.raises(PipelineError, match="2 processes on pipeline.stages.finetuning.finetune: .*"):
            bench.tune("dying", progress=kill, machine={"processes": 2}, finetune={"epochs": 50})
        assert time.monotonic() - killed[0] < 900  # no hang: the others would wait for half an hour
        assert not (bench.folder / "dying" / "request.json").exists()

    def test_an_error_in_one_process_is_told(self, bench):
        copied = bench.folder / "without"
        shutil.copytree(bench.manifest, copied)
        victim = sorted((copied / "videos").glob("train_*"))[0]
        victim.write_bytes(b"nothing")
        experiment = bench.changed(machine={"processes": 2})
        with pytest.raises(PipelineError, match=victim.stem):
            finetune(experiment, copied, [], bench.head, bench.folder / "unreadable")

    def test_it_stops_when_the_validation_split_gets_no_better(self, bench):
        folder = bench.tune(
            "patient",
            finetune={
                "epochs": 30,
                "patience_epochs": 1,
                "backbone_learning_rate": 1e-9,
                "head_learning_rate": 1e-9,
                "unfreeze": "neck",
            },
        )
        selection = json.loads((folder / "selection.json").read_text())
        assert len(selection["video_auc"]) < 30
        assert len(selection["video_auc"]) == selection["best_epoch"] + 1

    def test_a_loss_that_is_not_finite_is_an_error(self, bench):
        with pytest.raises(PipelineError, match="the loss is (nan|inf) in epoch"):
            bench.tune(
                "wild",
                finetune={"backbone_learning_rate": 1e30, "clip_norm": 0.0, "warmup_steps": 0, "optimizer": "adamw"},
            )

    def test_labels_are_permuted_as_in_the_frozen_stage(self, bench, unbroken):
        folder = bench.tune("control", training={"permute_labels_seed": 5}, finetune={"epochs": 1})
        assert (folder / "losses.csv").read_text().splitlines()[1] != (
            unbroken / "losses.csv"
        ).read_text().splitlines()[1]


GRADIENTS = """
import sys, torch, numpy as np
from pathlib import Path
from contextlib import nullcontext
from pipeline.models.backbone import build_backbone
from pipeline.models.heads import build_head
from pipeline.models.live import LiveModel, unfreeze
from pipeline.stages.finetuning.clips import Ahead
from pipeline.stages.finetuning.team import ALONE, leave, team
from pipeline.stages.finetuning.optimisation import accumulate, trained

with (nullcontext(ALONE) if len(sys.argv) > 2 else team("cpu")) as member:
    torch.manual_seed(0)
    network = build_backbone("tpn_tiny", "bundled")
    unfreeze(network, "all")
    model = LiveModel(network, build_head("gig", channels=2048, classes=2), None, 2)
    model.head.train()
    names = [f"v{i}" for i in range(5)]
    shape = (3, 1, 6, 64, 64, 3)
    bags = {n: np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8) for i, n in enumerate(names)}
    labels = {n: torch.tensor([[1.0, 0, 0], [0, 1.0, 0]][i % 2]) for i, n in enumerate(names)}
    mine = member.share(names)
    clips = Ahead((bags[n] for n in mine), torch.device("cpu"))
    sums = accumulate(model, clips, mine, labels, model.head.loss_settings, batch=5, draw="0 1", at_once=1)
    total = sum(part["total"] for part in member.gather(sums))
    member.sum_gradients(trained(model).values())
    if member.rank == 0:
        torch.save({"total": total, **{n: p.grad for n, p in trained(model).items()}}, sys.argv[1])
leave()
"""


@pytest.mark.slow
def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path):
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
        str(tmp_path / "two.pt"),
    ]
    subprocess.run(run, check=True, env=environment, cwd=tmp_path)
    subprocess.run(
        [sys.executable, str(script), str(tmp_path / "one.pt"), "alone"], check=True, env=environment, cwd=tmp_path
    )
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one.pt", "two.pt"))
    assert one.keys() == two.keys()
    assert two.pop("total") == pytest.approx(one.pop("total"), rel=1e-5)
    for name, gradient in one.items():
        assert float((two[name] - gradient).norm() / gradient.norm().clamp_min(1e-9)) < 1e-5, name


class TestCheckpoints:
    def test_the_last_are_kept_and_the_newest_readable_one_is_taken(self, tmp_path):
        for step in (1, 2, 9, 10):
            save_checkpoint(tmp_path, step, {"step": step, "weights": {"a": torch.ones(3)}}, keep=2)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000009.pt", "step-000000010.pt"]
        newest = tmp_path / "step-000000010.pt"
        newest.write_bytes(newest.read_bytes()[:100])
        assert latest_checkpoint(tmp_path, torch.device("cpu"))["step"] == 9
        assert latest_checkpoint(tmp_path / "none", torch.device("cpu")) is None

    def test_checkpoints_of_later_steps_make_way(self, tmp_path):
        """They are of a training that this one could not go on from."""
        (tmp_path / "step-000000010.pt").write_bytes(b"cut short")
        for step in (5, 6):
            save_checkpoint(tmp_path, step, {"step": step}, keep=3)
        assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000005.pt", "step-000000006.pt"]

    def test_without_room_nothing_is_written_and_nothing_lost(self, tmp_path, monkeypatch):
        save_checkpoint(tmp_path, 1, {"weights": [torch.ones(3)]}, keep=1)
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=checkpoints.MARGIN_BYTES))
        with pytest.raises(OutputError, match=r"expected 1\.0 MiB of free space, got 1\.0 MiB"):
            save_checkpoint(tmp_path, 2, {"weights": [torch.ones(3)]}, keep=1)
        assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]


def test_learning_rates_rise_and_then_stay_or_fall():
    constant = Finetune(warmup_steps=3)
    assert [learning_rate_factor(step, constant, 10) for step in (0, 1, 2, 3, 9)] == [0.25, 0.5, 0.75, 1, 1]
    cosine = Finetune(warmup_steps=2, schedule="cosine")
    values = [learning_rate_factor(step, cosine, 10) for step in range(10)]
    assert values[2] == 1
    assert values[6] == pytest.approx(0.5)
    assert values[2:] == sorted(values[2:], reverse=True)
    assert values[9] > 0


def test_backbone_and_head_have_learning_rates_of_their_own():
    network = build_backbone("tpn_tiny", "bundled")
    unfreeze(network, "neck")
    model = LiveModel(network, build_head("gig", channels=2048, classes=2), None, 2)
    for name, kind in (("adagrad", torch.optim.Adagrad), ("adamw", torch.optim.AdamW)):
        settings = Finetune(optimizer=name, backbone_learning_rate=1e-5, head_learning_rate=1e-2, weight_decay=0.1)
        optimizer = make_optimizer(model, settings)
        assert isinstance(optimizer, kind)
        backbone, head = optimizer.param_groups
        assert (backbone["peak"], head["peak"], head["weight_decay"]) == (1e-5, 1e-2, 0.1)
        assert len(head["params"]) == 4
        assert len(backbone["params"]) == len(list(network.neck.parameters()))


def test_what_cannot_be_fine_tuned_is_refused(nano):
    for change, message in (
        (
            {"finetune": {"enabled": True, "run": "untrained"}},
            "expected a run whose head is gig, untrained has pattern_norm",
        ),
        ({"finetune": {"enabled": True, "run": "other"}}, "no run 'other'; there are: gig, untrained"),
        ({"finetune": {"enabled": True}, "features": {"train": "i3d"}}, "`features` names imported ones"),
        ({"finetune": {"enabled": True, "patience_epochs": 2}}, "early stopping needs a validation split"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_experiment(nano | change)
    with pytest.raises(ConfigError, match=r"finetune\.enabled is false"):
        _ = Recipes(parse_experiment(nano)).finetuned


@pytest.mark.gpu
def test_a_gpu_fits_in_mixed_precision(bench):
    for precision in ("bfloat16", "float16"):
        folder = bench.tune(f"gpu-{precision}", finetune={"precision": precision}, machine={"device": "cuda"})
        facts = json.loads((folder / "facts.json").read_text())
        assert facts["peak_gpu_bytes"] > 0
        assert yaml.safe_load((folder / "config.yaml").read_text())["precision"] == precision
