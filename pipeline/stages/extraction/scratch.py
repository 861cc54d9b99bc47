"""Features of video files that belong to no data set: extracted into a temporary folder, used, and dropped."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from cache import FeatureStore
from cache.objects import NO_LOCKS
from pipeline.config import Experiment
from pipeline.models.backbones import VideoBackbone
from pipeline.progress import Say
from pipeline.remote import AnyPath
from pipeline.stages.common.cards import use_device
from pipeline.stages.common.feature_recipe import FeatureRecipe, experiment_recipe
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.outcomes import Outcome
from pipeline.stages.extraction.sources import experiment_workers

__all__ = ["ScratchExtraction", "scratch_folder", "scratch_store"]

PREFIX, LOCK = "gig-scratch-", "lock"


class ScratchExtraction:
    """The experiment's backbone, loaded, for video files of no data set. It keeps its GPU as long as it exists.

    Args:
        experiment: settings.
        tell: told what goes on.
        say: told what the user should know, such as damage.
        backbone: used instead of the experiment's; then the experiment's precision is not `auto`.

    Attributes:
        recipe: how the features are made.
        namespace: the part of the store to which they go.

    Raises:
        ConfigError: the device is not there, or does not have the precision.
        WeightsError: the backbone's weights cannot be loaded.
    """

    namespace = "scratch"

    def __init__(self, experiment: Experiment, tell: Say, say: Say, backbone: VideoBackbone | None = None) -> None:
        self._experiment, self._tell, self._say = experiment, tell, say
        self._until_dropped = ExitStack()
        device = self._until_dropped.enter_context(use_device(experiment.machine.device, say))
        tell("loading the backbone")
        if backbone is not None:
            backbone.set_precision(getattr(torch, experiment.backbone.precision))
        self._extractor = Extractor(experiment, backbone, say, device)
        self.recipe: FeatureRecipe = experiment_recipe(
            experiment, self._extractor.engine.network, self._extractor.precision
        )

    def extract(self, files: Iterable[tuple[str, AnyPath]], store: FeatureStore) -> Iterator[Outcome]:
        """Extract every file as a test video.

        Args:
            files: video id, and video file or folder of images; each is asked for when a decoder is free, and is read
                until its outcome is known.
            store: an empty one, see `scratch_store`.

        Yields:
            One outcome per file, as soon as it is known.
        """

        def watch(name: str, frames: int) -> None:
            self._tell(f"extracting {name}, frame {frames}")

        with experiment_workers(self._experiment) as workers:
            yield from self._extractor.extract(files, "test", store, self.namespace, workers, self._say, watch)


@contextmanager
def scratch_store(say: Say) -> Iterator[FeatureStore]:
    """An empty cache in a `scratch_folder`."""
    with scratch_folder(say) as folder:
        yield FeatureStore.open(folder / "cache")


@contextmanager
def scratch_folder(say: Say) -> Iterator[Path]:
    """A temporary folder for folders, which is removed when the block ends.

    A killed process cannot remove its folder, so folders of processes that have ended are removed first. A process
    holds the lock of its folder as long as it lives, on whichever machine that shares the folder it is.

    Args:
        say: told which folders of killed processes were removed.
    """
    _remove_abandoned(Path(tempfile.gettempdir()), say)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        new = folder / f"{LOCK}.new"
        with new.open("wb") as lock:
            if _lock(lock.fileno()):
                new.rename(folder / LOCK)  # so a lock under this name was held from the start
            yield folder


def _remove_abandoned(parent: Path, say: Say) -> None:
    for path in parent.glob(f"{PREFIX}*/{LOCK}"):
        try:
            with path.open("r+b") as lock:
                if not _lock(lock.fileno()):
                    continue  # its process is at work
                for child in path.parent.iterdir():
                    if child != path:
                        shutil.rmtree(child)
                shutil.rmtree(path.parent)  # with the lock, last: until then nothing else removes it
        except OSError:
            continue  # another user's, or just being removed by its own process
        say(f"{path.parent} is removed: features that a killed process has left")


def _lock(descriptor: int) -> bool:
    """Whether the lock of an open file could be taken; not on a file system without locks either."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True
