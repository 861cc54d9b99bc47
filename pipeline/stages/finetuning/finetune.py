"""End to end: train backbone and head together from video clips, starting from the frozen stage's head.

The loop is in `pipeline.stages.finetuning.loop`. Here is what it starts from and what it writes, in one process or
several.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.utils.tensorboard import SummaryWriter

from cache.errors import CacheError
from pipeline.config import Experiment, Run, parse_experiment, to_yaml
from pipeline.data.decoding.following import end_with
from pipeline.data.manifest import Manifest
from pipeline.errors import PipelineError
from pipeline.hashing import file_sha256
from pipeline.models.backbone import build_backbone, full_state
from pipeline.models.live import LiveModel, unfreeze
from pipeline.progress import Progress, Say, silent
from pipeline.stages.common.cards import use_device
from pipeline.stages.common.device import check_precision
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.outputs import check_space, keep_if_made_from, whole_file
from pipeline.stages.common.recipes import TUNED_BACKBONE
from pipeline.stages.extraction.sources import experiment_workers
from pipeline.stages.finetuning.clips import ClipSource
from pipeline.stages.finetuning.loop import CHECKPOINTS, FineTuning, LabelledVideos
from pipeline.stages.finetuning.team import ALONE, Team, launch, leave, own_cards, team, tell
from pipeline.stages.training.saved_heads import TrainedHead, load_head, save_head
from pipeline.stages.training.train import write_losses
from pipeline.stages.training.training_set import held_out_videos, training_labels, used_videos

__all__ = ["finetune"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def finetune(
    experiment: Experiment,
    manifest_folder: Path,
    left_out: Sequence[str],
    head_folder: Path,
    folder: Path,
    progress: Progress | None = None,
    say: Say = silent,
) -> None:
    """Fine-tune as the experiment's section `finetune` says, in `machine.processes` processes.

    No other process gets their GPUs meanwhile; if too few are free, this waits.

    Writes backbone.safetensors (the whole recogniser, for `backbone.weights`), head.safetensors, losses.csv,
    TensorBoard events, facts.json, config.yaml, and with a validation split selection.json.

    Args:
        experiment: settings.
        manifest_folder: of the manifest.
        left_out: ids of videos in quarantine.
        head_folder: of the frozen stage's head.
        folder: for results and checkpoints; the training continues from checkpoints that it finds there.
        progress: told the steps done.
        say: told for whom this waits.

    Raises:
        ConfigError: the device does not exist, or does not have the precision.
        DecodeError: a video can no longer be read.
        OutputError: there is no room for a checkpoint.
        PipelineError: a loss or a weight is not finite, or a process died.
    """
    keep_if_made_from(folder, file_sha256(head_folder / "head.safetensors"))
    request = folder / "request.json"
    request.unlink(missing_ok=True)  # left by processes that were killed
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)  # written again from the checkpoint
    if experiment.machine.processes == 1:
        with use_device(experiment.machine.device, say) as device:
            _train(
                experiment,
                manifest_folder=manifest_folder,
                left_out=left_out,
                head_folder=head_folder,
                folder=folder,
                member=ALONE,
                device=device,
                progress=progress,
            )
        return
    facts = {"experiment": experiment.model_dump(mode="json"), "left_out": list(left_out)}
    facts |= {"manifest": str(manifest_folder), "head": str(head_folder), "folder": str(folder)}
    request.write_text(json.dumps(facts), encoding="utf-8")
    try:
        with own_cards(experiment.machine, say) as environment:
            launch(experiment.machine.processes, "pipeline.stages.finetuning.finetune", request, progress, environment)
    finally:
        request.unlink(missing_ok=True)


def main(request: Path) -> None:
    """One process of several, started by `launch`. It ends when its input does, a pipe from the caller of `launch`."""
    end_with(sys.stdin.fileno())
    facts = json.loads(request.read_text(encoding="utf-8"))
    experiment = parse_experiment(facts["experiment"], where=str(request))
    try:
        with team(experiment.machine.device) as member:
            progress = (lambda *state: tell("progress", *state)) if member.rank == 0 else None
            _train(
                experiment,
                manifest_folder=Path(facts["manifest"]),
                left_out=facts["left_out"],
                head_folder=Path(facts["head"]),
                folder=Path(facts["folder"]),
                member=member,
                device=member.device(experiment.machine.device),
                progress=progress,
            )
    except (PipelineError, CacheError) as error:
        tell("error", str(error))
        raise SystemExit(1) from error


def _train(
    experiment: Experiment,
    *,
    manifest_folder: Path,
    left_out: Sequence[str],
    head_folder: Path,
    folder: Path,
    member: Team,
    device: torch.device,
    progress: Progress | None,
) -> None:
    """Train in this process, alone or as a member of a team; process 0 writes the results."""
    settings, machine, run = experiment.finetune, experiment.machine, experiment.run(experiment.finetune.run)
    if machine.threads:
        torch.set_num_threads(machine.threads)
    check_precision(settings.precision, device)
    if progress:
        progress(0, 1, "loading the backbone")
    manifest = load_manifest(experiment, manifest_folder).without(list(left_out))
    start = load_head(head_folder / "head.safetensors")
    model = _model(experiment, run, start).to(device)
    data = _divided(manifest, run)
    with ExitStack() as open_until_done:
        workers = open_until_done.enter_context(experiment_workers(experiment))
        board = open_until_done.enter_context(SummaryWriter(folder / "tensorboard")) if member.rank == 0 else None
        clips = ClipSource(experiment, manifest, workers)
        training = FineTuning(experiment, run, model, data, clips, folder, member, progress, board)
        training.run_all()
    if member.rank == 0:
        _write(folder, training, start, experiment)
    member.gather(None)  # nobody leaves before the results are there


def _model(experiment: Experiment, run: Run, start: TrainedHead) -> LiveModel:
    """The model at the beginning: the backbone of the frozen stage and its head."""
    settings, source = experiment.finetune, experiment.backbone
    network = build_backbone(source.name, source.weights, seed=source.seed)
    unfreeze(network, settings.unfreeze)
    return LiveModel(
        network,
        start.module.requires_grad_(True),
        start.standardizer,
        run.head.k,
        reduction=run.head.reduction,
        relation=run.head.relation,
        enhancement=run.head.enhancement,
        cue_of=run.head.cue_of,
        cue_segments=run.head.cue_segments,
        precision=DTYPES[settings.precision],
        checkpointing=experiment.machine.activation_checkpointing,
    )


def _divided(manifest: Manifest, run: Run) -> LabelledVideos:
    """The training videos as the frozen stage divides and labels them."""
    entries = sorted(used_videos(run, manifest.split("train")), key=lambda entry: entry.video_id)
    ids = [entry.video_id for entry in entries]
    labels = training_labels(manifest, ids, run.training)
    held_out = held_out_videos(run, manifest.split("train"))
    training = tuple(video_id for video_id in ids if video_id not in held_out)
    return LabelledVideos(training, tuple(sorted(held_out)), dict(zip(ids, labels, strict=True)))


def _write(folder: Path, training: FineTuning, start: TrainedHead, experiment: Experiment) -> None:
    """Write the results, then remove the checkpoints."""
    model, state = training.model, training.state
    check_space(folder, sum(value.nbytes for value in full_state(model.network).values()))
    facts = {
        "started_from": model.network.weights_sha256,
        "videos": len(training.data.fitting),
        "trained_weights": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": len(state.history),
        "steps": state.steps,
        "steps_per_s": training.steps_per_s,
        "device": torch.cuda.get_device_name(training.device) if training.device.type == "cuda" else "cpu",
        "peak_gpu_bytes": torch.cuda.max_memory_allocated(training.device) if training.device.type == "cuda" else None,
        "processes": training.member.size,
    }
    model.cpu()
    tuned = folder / TUNED_BACKBONE
    with whole_file(tuned) as partial:
        save_file(full_state(model.network), partial, metadata={"backbone": model.network.name})
    # The tuned head belongs to features of the tuned backbone; all else about them is as in the frozen stage.
    features = replace(start.features, weights_sha256=file_sha256(tuned)) if start.features else None
    save_head(folder / "head.safetensors", model.head, training.run.head, start.standardizer, start.classes, features)
    if training.validation:
        training.validation.write(folder, model.head, start.classes)
    write_losses(folder, state.history)
    (folder / "facts.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (folder / "config.yaml").write_text(to_yaml(experiment.finetune), encoding="utf-8")
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave()
