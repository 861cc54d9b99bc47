"""An extraction in several processes, each with a GPU of its own, or with its share of the CPU.

They share the videos as separate commands would (`claims`, beside this), so any of them can be lost: the others take
its videos. Each is a fresh interpreter, in which CUDA works whatever this process did before; it sees one card only.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

import torch

from pipeline.config import Experiment
from pipeline.config.machine import Machine
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.errors import PipelineError
from pipeline.progress import Say
from pipeline.stages.common.cards import Card, hold_cards, visible_cards
from pipeline.stages.common.device import choose_precision, pick_device

__all__ = ["Fate", "Job", "Settled", "Watched", "extract_in_processes", "how_many"]

MOST_DECODERS = 16


class Fate(IntEnum):
    """What became of a video. Where two processes disagree, the higher one is right: the other came later."""

    CACHED = 0
    QUARANTINED = 1
    EXTRACTED = 2
    DAMAGED = 3


@dataclass(frozen=True)
class Job:
    """What each of the processes is to do, together with the others.

    Attributes:
        experiment: settings.
        manifest: the data set.
        split: `train` or `test`.
        videos: those to extract, in the order in which to begin with them.
        namespace: the part of the cache to which the features go.
        quarantine: the folder of the quarantine.
        decoder: see `DecodeWorkers`.
    """

    experiment: Experiment
    manifest: Manifest
    split: str
    videos: tuple[VideoEntry, ...]
    namespace: str
    quarantine: Path
    decoder: str


@dataclass(frozen=True)
class Watched:
    """So many frames of a video are decoded."""

    video_id: str
    frames: int


@dataclass(frozen=True)
class Settled:
    """There is nothing left to do on a video. Every process reports it of every video."""

    video_id: str
    fate: Fate


@dataclass(frozen=True)
class Said:
    """A message that a person should read; or only one that this process waits for another one."""

    message: str
    waiting: bool = False


@dataclass(frozen=True)
class Failed:
    """The process ends with an error."""

    message: str


@dataclass(frozen=True)
class Done:
    """The process ends, and every video is settled."""


STOP = "stop"
"""What a process is sent when it shall finish the videos that it has begun, and begin no others."""


def how_many(machine: Machine, videos: int) -> int:
    """The number of processes for an extraction; 0 if the process that asks should do it itself.

    Args:
        machine: settings.
        videos: number of videos to extract.

    Raises:
        ConfigError: the device is not there.
    """
    device = pick_device(machine.device)
    if device.type != "cuda":
        wanted = min(machine.extract_processes or 1, videos)
        return wanted if wanted > 1 else 0
    cards = torch.cuda.device_count() if device.index is None else 1
    wanted = min(machine.extract_processes or cards, cards, videos)
    forked = multiprocessing.parent_process() is not None  # by luigi; CUDA may not work in it
    return wanted if wanted > 1 or forked else 0


def extract_in_processes(job: Job, count: int, say: Say) -> Generator[Watched | Settled, None, None]:
    """Extract videos in several processes, which end with this one, or when this is closed.

    A process that is killed costs nothing but time: the others do its work. After an error they finish the videos that
    they have begun.

    Args:
        job: what is to be done.
        count: how many processes; with GPUs, fewer if fewer are free, but at least one, for which this waits.
        say: told what the processes have to say, and who was killed.

    Yields:
        How far they are.

    Raises:
        PipelineError: a process ended with an error, or all of them were killed.
    """
    with _cards(job.experiment.machine, count, say) as cards:
        count = len(cards)
        processes: list[_Process] = []
        try:
            for number, card in enumerate(cards, start=1):
                processes.append(_Process(f"process {number} of {count} of the extraction", card))
            for process in processes:
                process.send(_part(job, count, "cuda" if process.card else "cpu"))
            yield from _follow(processes, say)
        finally:
            for process in processes:
                process.kill()


def _follow(processes: list[_Process], say: Say) -> Iterator[Watched | Settled]:
    """Relay what the processes tell until all have ended."""
    alive = {process.connection: process for process in processes}
    told: set[str] = set()
    errors: list[str] = []
    while alive:
        for connection in wait(list(alive)):
            process = alive[cast(Connection, connection)]
            message = process.receive()
            if isinstance(message, Watched | Settled):
                yield message
            elif isinstance(message, Said):
                among_them = any(f"process {other.pid} on " in message.message for other in processes)
                if not message.waiting or not (among_them or message.message in told):
                    say(message.message)
                    told.add(message.message)
            else:
                del alive[process.connection]
                if isinstance(message, Failed):
                    if not errors:
                        say(f"{process.name} failed; the others finish the videos that they have begun")
                    errors.append(f"{process.name}: {message.message}")
                    for other in alive.values():
                        other.send(STOP)
                elif message is None and not errors:
                    say(f"warning: {process.name} was killed ({process.end()}); {len(alive)} go on with its videos")
    if errors:
        raise PipelineError(errors[0])
    if not any(process.done for process in processes):
        raise PipelineError(
            f"all {len(processes)} processes of the extraction were killed, the last one by {processes[-1].end()}; "
            "what they finished is kept, and the same command goes on with it. Was there too little memory? "
            "machine.extract_processes sets their number"
        )


@contextmanager
def _cards(machine: Machine, count: int, say: Say) -> Iterator[list[Card | None]]:
    """The card of each process, held during the block; None for a process on the CPU."""
    device = pick_device(machine.device)
    if device.type != "cuda":
        yield [None] * count
        return
    cards = visible_cards()
    with hold_cards(cards if device.index is None else [cards[device.index]], 1, count, say) as held:
        yield list(held)


def _part(job: Job, count: int, device: str) -> Job:
    """The job as one of the processes gets it: with its share of decoders and threads."""
    machine, backbone, cores = job.experiment.machine, job.experiment.backbone, len(os.sched_getaffinity(0))
    share = {
        "device": device,
        "decode_workers": max(1, min((machine.decode_workers or cores) // count, MOST_DECODERS)),
        "threads": machine.threads or max(1, cores // count),
    }
    precision = choose_precision(backbone.precision, pick_device(machine.device))  # the same for all cards
    experiment = job.experiment.model_copy(
        update={
            "machine": machine.model_copy(update=share),
            "backbone": backbone.model_copy(update={"precision": precision}),
        }
    )
    return replace(job, experiment=experiment)


class _Process:
    """One of the processes.

    Attributes:
        name: in messages.
        card: on which it computes; None for the CPU.
        connection: what it says comes here.
        pid: its number.
        done: whether it has said that it is done.
    """

    def __init__(self, name: str, card: Card | None) -> None:
        self.name, self.card, self.done = name + (f" on {card.name}" if card else ""), card, False
        ours, theirs = socket.socketpair()
        variables = os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
        descriptors = [theirs.fileno()]
        if card:
            variables["CUDA_VISIBLE_DEVICES"] = card.visible
            descriptors += [card.lock] if card.lock is not None else []  # so it is held as long as this process lives
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.stages.extraction.child", str(theirs.fileno())],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the process that made it, with which it ends
                env=variables,
            )
        self.connection = Connection(ours.detach())
        self.pid = self._process.pid

    def send(self, message: Job | str) -> None:
        """Send it something; one that has died says so by `receive`."""
        with suppress(OSError):
            self.connection.send(message)

    def receive(self) -> Watched | Settled | Said | Failed | Done | None:
        """What has come; None if it was killed, and `Failed` if it died of itself without a word."""
        try:
            message: Watched | Settled | Said | Failed | Done = self.connection.recv()
        except (EOFError, OSError):
            return None if self._process.wait() < 0 else Failed(f"it ended with {self.end()}")
        self.done = isinstance(message, Done)
        return message

    def end(self) -> str:
        """How it ended."""
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self.connection.close()
