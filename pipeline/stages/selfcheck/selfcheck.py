"""The self-check: what is right, how fast it is, and what limits it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from pipeline.config import Experiment, GeneratedDataset
from pipeline.data.datasets import listing
from pipeline.models.backbones.registry import load_backbone, load_reference
from pipeline.progress import Say, silent
from pipeline.remote import AnyPath
from pipeline.stages.common.cards import use_device
from pipeline.stages.common.device import choose_precision
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.selfcheck.clip import busy_pictures, write_video
from pipeline.stages.selfcheck.features import (
    ClipFeatures,
    check_device,
    clip_features,
    compared_maps,
    engine_maps,
    module_maps,
)
from pipeline.stages.selfcheck.findings import Check, Speed, checked
from pipeline.stages.selfcheck.machine import machine_facts
from pipeline.stages.selfcheck.pipeline_check import check_decoding, check_extraction, scratch_url
from pipeline.stages.selfcheck.speeds import bottleneck, cache_speeds, decoding_speed, disk_speed, model_speed

__all__ = ["SelfCheck", "self_check"]

FILES = 32
"""Of the data set, at most, for timing."""
BUSY_FRAMES, BUSY_WIDTH, BUSY_HEIGHT = 60, 1280, 720
QUANTISER = 23


@dataclass
class SelfCheck:
    """What was found.

    Attributes:
        checks: in the order in which they were made.
        speeds: of the parts that could be timed.
        features: of the generated clip; None where the backbone could not be run.
        machine: versions and hardware, by name.
        load: processes that wanted to run before the check, the system's mean of a minute.
        cores: that this process can use.
    """

    checks: list[Check] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)
    features: ClipFeatures | None = None
    machine: dict[str, str] = field(default_factory=machine_facts)
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    @property
    def wrong(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if not check.ok]

    @property
    def bottleneck(self) -> str:
        """What limits an extraction, in a sentence; "" where it is not known."""
        return bottleneck(self.speeds)

    def document(self) -> dict[str, object]:
        """All of it as plain data for JSON, without the single values of the features."""
        features = self.features and {k: v for k, v in asdict(self.features).items() if k != "pooled"}
        return {
            "ok": not self.wrong,
            "checks": [asdict(check) for check in self.checks],
            "speeds": [asdict(speed) for speed in self.speeds],
            "bottleneck": self.bottleneck or None,
            "features": features,
            "load": self.load,
            "machine": self.machine,
        }


def self_check(
    experiment: Experiment, rendered: Path | None = None, seconds: float = 3.0, tell: Say = silent
) -> SelfCheck:
    """Check and time what an extraction of the experiment uses on this machine. Nothing is downloaded or kept.

    Args:
        experiment: settings; device, decoders, weights and cache are those of its configuration.
        rendered: folder of the videos of a generated data set, if they have been rendered.
        seconds: for which each part is timed; 0: nothing is timed.
        tell: told what is being done.
    """
    found = SelfCheck()
    with tempfile.TemporaryDirectory(prefix="gig-selfcheck-") as name, ExitStack() as held:
        folder = Path(name)
        tell("decoding")
        found.checks.append(checked("decoding", partial(check_decoding, folder)))
        extractor = _check_backbone(found, experiment, tell, held)
        if extractor and found.checks[0].ok:
            tell("cache")
            where = f"cache at {experiment.paths.cache}"
            found.checks.append(checked(where, partial(check_extraction, extractor, experiment, folder)))
        if seconds:
            _time_all(found, experiment, extractor, folder, rendered, seconds, tell)
    return found


def _check_backbone(found: SelfCheck, experiment: Experiment, tell: Say, held: ExitStack) -> Extractor | None:
    """Check the backbone on the configured device, on the CPU and on a GPU; None where it cannot be run.

    The device is held as long as `held` is open.
    """
    settings, extractors = experiment.backbone, []
    if experiment.features.train and experiment.features.test:
        found.checks.append(Check("backbone", True, "not run, since the features of both splits are imported"))
        return None

    def configured() -> Check:
        tell("loading the backbone")
        plain = load_reference(settings)
        device = held.enter_context(use_device(experiment.machine.device, tell))
        precision = choose_precision(settings.precision, device)
        network = load_backbone(settings)
        network.set_precision(getattr(torch, precision))
        extractor = Extractor(experiment, network, device=device)
        tell("backbone")
        reference, maps = module_maps(plain, experiment), engine_maps(extractor.engine, experiment)
        found.features = clip_features(extractor.engine, experiment, precision, maps)
        extractors.append(extractor)
        for other in _other_devices(device, precision):
            tell(f"backbone on {other}")
            more = partial(check_device, load_backbone(settings), other, experiment, reference)
            found.checks.append(checked(f"backbone on {other.type}", more))
        return compared_maps(maps, reference, device.type, precision)

    found.checks.append(checked("backbone", configured))
    return extractors[0] if extractors else None


def _other_devices(device: torch.device, precision: str) -> list[torch.device]:
    """Devices on which the backbone is checked besides the configured one: the CPU in float32, and a GPU."""
    others = [] if (device.type, precision) == ("cpu", "float32") else [torch.device("cpu")]
    return others + ([torch.device("cuda")] if device.type == "cpu" and torch.cuda.is_available() else [])


def _time_all(
    found: SelfCheck,
    experiment: Experiment,
    extractor: Extractor | None,
    folder: Path,
    rendered: Path | None,
    seconds: float,
    tell: Say,
) -> None:
    """Time every part that can be; what fails is a wrong check."""

    def timed(name: str, measure: Callable[[], Sequence[Speed]]) -> None:
        def run() -> Check:
            tell(f"timing: {name}")
            found.speeds.extend(measure())
            return Check(name, True, "")

        if not (check := checked(name, run)).ok:
            found.checks.append(replace(check, name=f"timing: {name}"))

    def decoding() -> Sequence[Speed]:
        if files := _videos(experiment, rendered):
            whole = [path for path in files if path.is_file()]
            speeds = [decoding_speed(experiment, files, "videos of the data set", seconds)]
            return [*speeds, disk_speed(whole, seconds)] if whole else speeds
        path = folder / "busy.mp4"
        write_video(path, busy_pictures(BUSY_FRAMES, BUSY_WIDTH, BUSY_HEIGHT), quantiser=QUANTISER)
        what = f"a generated video of {BUSY_WIDTH}x{BUSY_HEIGHT}, since there are no videos of the data set"
        return [decoding_speed(experiment, [path], what, seconds)]

    def cache() -> Sequence[Speed]:
        with scratch_url(experiment.paths.cache) as url:
            return cache_speeds(experiment, url)

    timed("decoding", decoding)
    if extractor and found.features:
        precision = found.features.precision
        timed("backbone", lambda: [model_speed(extractor.engine, experiment, precision, seconds)])
    timed("cache", cache)


def _videos(experiment: Experiment, rendered: Path | None) -> list[AnyPath]:
    """Some videos of the data set that are there. Raises StorageError."""
    dataset = experiment.dataset
    if isinstance(dataset, GeneratedDataset):
        return [*sorted(rendered.glob("*.mp4"))[:FILES]] if rendered else []
    if dataset.frame_counts:
        return []
    return [dataset.root / path for *_, path, size, _ in listing(dataset) if size > 0][:FILES]
