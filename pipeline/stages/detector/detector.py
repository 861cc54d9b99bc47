"""A detector in memory: loaded from its file, and used to score videos.

from pipeline import Detector

detector = Detector.load("gig.safetensors")
result = detector.score("camera7.mp4")
result.anomaly, result.times_s, result.events
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from cache import FeatureStore
from pipeline.config.heads import parse_head
from pipeline.config.machine import Machine
from pipeline.errors import DecodeError, DetectorError, PipelineError, WeightsError
from pipeline.metrics.hysteresis import EventRule
from pipeline.models.backbones import VideoBackbone, load_backbone
from pipeline.models.backbones.registry import restore_backbone
from pipeline.models.heads import build_head
from pipeline.models.weights import BUNDLED, weights_sha256
from pipeline.progress import Say, silent
from pipeline.stages.common.digests import VERSIONS
from pipeline.stages.detector.document import Document
from pipeline.stages.detector.file import HeldTensor, read_header, read_tensors
from pipeline.stages.detector.results import ScoredFile, ScoredOutcome
from pipeline.stages.events.detect import events_of_video
from pipeline.stages.events.rules import make_rules
from pipeline.stages.extraction.scratch import ScratchExtraction, scratch_folder
from pipeline.stages.scoring.inputs import find_videos
from pipeline.stages.scoring.score import score_video
from pipeline.stages.scoring.scorer import ScoreElsewhere, Scorer, settings_of
from pipeline.stages.training.saved_heads import TrainedHead, build_trained, check_features

__all__ = ["BACKBONE", "Detector", "ScoredFile", "ScoredOutcome"]

BACKBONE = "backbone."
HEAD = ("head.", "standardizer.")


class Detector:
    """A detector that scores videos; made by `load`.

    Attributes:
        document: all that is known of it.
        seal: SHA-256 over all of it, 64 hex digits: the identity of the detector.
        head: the trained head.
        rules: by which events are found, by class and for anomaly in general.
    """

    def __init__(
        self,
        document: Document,
        tensors: Mapping[str, torch.Tensor],
        seal: str,
        where: Path,
        weights: Path | None = None,
        machine: Machine | None = None,
    ) -> None:
        self.document, self.seal, self._where, self._weights = document, seal, where, weights
        self.experiment = document.experiment_for(machine or Machine())
        own = {name: tensor for name, tensor in tensors.items() if name.startswith(HEAD)}
        self._backbone = {n.removeprefix(BACKBONE): t for n, t in tensors.items() if n.startswith(BACKBONE)}
        facts = document.head.model_dump(mode="json")
        self.head: TrainedHead = build_trained(facts, own, where)
        self.rules = self._make_rules()
        self._extraction: ScratchExtraction | None = None
        self._say: Say = silent

    @classmethod
    def load(cls, path: str | Path, *, weights: str | Path | None = None, machine: Machine | None = None) -> Detector:
        """Read a detector from its file, whose seal is checked. Nothing in the file is executed.

        The backbone is built from its tensors when the first video is scored.

        Args:
            path: of the file.
            weights: the backbone's weight file, for a detector that was packed without it.
            machine: device, threads, number of decoders and the like; default: those of `machine` in a configuration.

        Raises:
            DetectorError: the file is missing, cut, changed, of a newer format, or no detector.
        """
        path = Path(path)
        file = read_header(path)
        document = Document.parse(file.document, path)
        check_names(document, file.tensors, path)  # before any tensor is read
        tensors = read_tensors(file)
        bad = [name for name, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()]
        if bad:
            raise DetectorError(f"{path}: {bad[0]}: expected finite numbers")
        return cls(document, tensors, file.seal, path, Path(weights) if weights else None, machine)

    @property
    def classes(self) -> tuple[str, ...]:
        """The anomaly classes, one column of the scores each."""
        return self.head.classes

    def notes(self) -> list[str]:
        """What a person should know before scores are used, a sentence each."""
        changed = [name for name, number in self.document.numbers.items() if VERSIONS.get(name) != number]
        return [
            f"{self._where}: this version of gig-vad computes {name} in another way than the one that packed it "
            f"({self.document.code_version}): scores can differ from those that its metrics are of"
            for name in changed
        ]

    def backbone(self) -> VideoBackbone:
        """The backbone with its weights. Raises WeightsError where the file does not hold them and none are given."""
        facts = self.document.backbone
        if facts.packed:
            return restore_backbone(facts.settings, self._backbone, facts.weights_sha256, self._where)
        weights = str(self._weights) if self._weights else "bundled"
        if self._weights is None and facts.name not in BUNDLED:
            raise WeightsError(
                f"{self._where} was packed without its backbone: give the weight file of {facts.name} whose SHA-256 is "
                f"{facts.weights_sha256} (--weights FILE)"
            )
        if (found := weights_sha256(weights, facts.name)) != facts.weights_sha256:
            raise WeightsError(
                f"{self._where}: expected weights of {facts.name} with SHA-256 {facts.weights_sha256}, {weights} has "
                f"{found}"
            )
        return load_backbone(facts.settings.model_copy(update={"weights": weights}))

    def scorer(self) -> Scorer:
        """For `score_sources`, which scores many files into a folder."""
        document, experiment = self.document, self.experiment
        about: dict[str, object] = {"classes": list(self.classes)}
        if document.class_thresholds is not None:
            about["thresholds"] = [document.class_thresholds.get(name) for name in self.classes]
        facts = {"name": document.name, "seal": self.seal, "path": str(self._where.resolve())}
        about |= {"detector": facts, "warnings": list(document.warnings)}
        made_with = {
            "detector": {"seal": self.seal},
            "backbone": document.backbone.model_dump(exclude={"packed"}),
            **settings_of(experiment, document.scoring),
        }
        elsewhere = self._elsewhere if experiment.machine.engine == "dask" else None
        return Scorer(experiment, document.scoring, self.head, self._where, made_with, about, self.backbone, elsewhere)

    def score(self, path: str | Path, *, say: Say = silent) -> ScoredFile:
        """Score one video.

        The backbone is loaded by the first call and kept; a detector is used by one thread at a time.

        Args:
            path: a video file, a folder of images, or a URL that fsspec reaches; such a file is copied to a temporary
                folder first.
            say: told what a person should know, such as damage.

        Raises:
            DecodeError: the video cannot be read.
            WeightsError: as `backbone`.
            PipelineError: `path` is a folder of several videos.
        """
        inputs = find_videos([str(path)])
        if len(inputs.videos) != 1:
            problem = "; ".join(inputs.unreachable) or f"got {len(inputs.videos)} videos"
            raise (DecodeError if inputs.unreachable else PipelineError)(f"{path}: expected one video: {problem}")
        [video] = inputs.videos
        with scratch_folder(say) as folder:
            found = self.outcome(video.name, video.fetch(folder / "copies"), say)
        if found.outcome.error:
            raise found.outcome.error
        assert found.scores is not None
        scores = found.scores
        parts = self.classes, scores.anomaly, scores.frames, scores.times_s
        events = events_of_video(video.name, video.place, *parts, self.rules)
        return ScoredFile(
            video.name, self.classes, scores.frames, scores.anomaly, scores.times_s, tuple(events), found.outcome.loss
        )

    def outcome(self, name: str, path: Path, say: Say = silent) -> ScoredOutcome:
        """Extract and score one file of this machine; what is wrong with it is in the outcome.

        Args:
            name: of the video.
            path: a video file or folder of images.
            say: told what a person should know.

        Raises:
            WeightsError: as `backbone`.
        """
        with scratch_folder(say) as folder:
            store = FeatureStore.open(folder / "cache")
            extraction = self._loaded(say)
            for outcome in extraction.extract([(name, path)], store):
                if outcome.error:
                    return ScoredOutcome(outcome, None, {})
                origin = store.record(extraction.namespace, name).provenance["source"]
                scores = score_video(store, extraction.namespace, name, self.head, self.document.scoring)
                return ScoredOutcome(outcome, scores, origin)
        raise AssertionError("one video has one outcome")

    def _elsewhere(self, files: Sequence[Path], say: Say) -> AbstractContextManager[ScoreElsewhere]:
        """What scores on the workers of the cluster that `machine` names."""
        from pipeline.stages.detector.on_cluster import DetectorOrder, cluster_scoring, some_files

        weights = str(self._weights.absolute()) if self._weights else None
        machine = self.experiment.machine.model_dump(mode="json")
        order = DetectorOrder(str(self._where.absolute()), weights, machine, some_files(files))
        return cluster_scoring(self, order, say)

    def _make_rules(self) -> dict[str, EventRule]:
        point, settings = self.document.operating_point, self.document.events
        try:
            return make_rules(settings, self.classes, {name: point.thresholds[name] for name in point.chosen})
        except (KeyError, PipelineError) as error:
            raise DetectorError(f"{self._where}: its thresholds make no rules for events: {error}") from error

    def _loaded(self, say: Say) -> ScratchExtraction:
        self._say = say
        if self._extraction is None:
            extraction = ScratchExtraction(self.experiment, silent, lambda text: self._say(text), self.backbone())
            for warning in [*self.notes(), *check_features(self.head, self._where, extraction.recipe, self.experiment)]:
                say(f"warning: {warning}")
            self._extraction = extraction
        return self._extraction


def check_names(document: Document, held: Mapping[str, HeldTensor], where: Path) -> None:
    """Check that a file holds the tensors of its head, in their shapes, and a backbone where it says so.

    The head is laid out without memory, so that no size in a document is trusted before the file has as many numbers.

    Raises DetectorError naming the tensors that are missing, surplus or of another shape.
    """
    expected = _head_tensors(document, where)
    own = {name: tensor for name, tensor in held.items() if not name.startswith(BACKBONE)}
    problems = [f"missing {name}" for name in expected if name not in own]
    problems += [f"unexpected {name[:80]}" for name in own if name not in expected]
    problems += [
        f"{name}: expected {expected[name]}, got {(tensor.dtype, tensor.shape)}"
        for name, tensor in own.items()
        if name in expected and (tensor.dtype, tensor.shape) != expected[name]
    ]
    if document.backbone.packed != any(name.startswith(BACKBONE) for name in held):
        problems.append(f"its document says backbone.packed: {document.backbone.packed}, which its tensors are not")
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise DetectorError(f"{where}: its tensors are not those of its document: {'; '.join(problems[:8])}{more}")


def _head_tensors(document: Document, where: Path) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Type and shape of every tensor of the head that the document describes."""
    facts = document.head
    channels = facts.channels or facts.features.map_shape[-1]
    try:
        settings = parse_head(facts.settings)
        with torch.device("meta"):
            module = build_head(settings.name, channels=channels, classes=len(facts.classes), **settings.options())
    except Exception as error:  # of any type: sizes of a hostile file reach torch here
        raise DetectorError(f"{where}: its head cannot be laid out ({str(error)[:200]})") from error
    tensors = {f"head.{name}": (value.dtype, tuple(value.shape)) for name, value in module.state_dict().items()}
    if settings.standardize:
        tensors |= {f"standardizer.{name}": (torch.float32, (channels,)) for name in ("mean", "std")}
    return tensors
