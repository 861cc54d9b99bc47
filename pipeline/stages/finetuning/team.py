"""Several processes that train one model: each has the whole model and a share of every batch; gradients are added up.

When a process dies, `torch.distributed.run` stops the others, and the caller gets an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist

from pipeline.config.machine import Machine
from pipeline.errors import ConfigError, PipelineError
from pipeline.progress import Progress, Say, silent
from pipeline.stages.common.cards import hold_cards, visible_cards
from pipeline.stages.common.device import pick_device

__all__ = ["ALONE", "Team", "launch", "leave", "own_cards", "team"]

Item = TypeVar("Item")
MARK = "gig-vad: "


@dataclass(frozen=True)
class Team:
    """This process among those that train together.

    Attributes:
        rank: its number from 0; process 0 writes and reports.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    def share(self, batch: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a batch."""
        return batch[self.rank :: self.size]

    def device(self, name: str) -> torch.device:
        """The device of this process; with CUDA every process has a card of its own.

        Args:
            name: `machine.device`.

        Raises:
            ConfigError: there is no such device, or there are fewer cards than processes.
        """
        device = pick_device(name)
        if device.type != "cuda" or self.size == 1:
            return device
        if device.index is not None or self.size > torch.cuda.device_count():
            raise ConfigError(
                f"machine.processes: expected device auto or cuda and at most {torch.cuda.device_count()} processes, "
                f"one per CUDA device, got {name} and {self.size}"
            )
        return torch.device("cuda", self.rank)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes; a missing gradient counts as zero."""
        if self.size == 1:
            return
        parameters = list(parameters)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([g.numel() for g in gradients]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def gather(self, item: Item) -> list[Item]:
        """The items of all processes, by rank, in every process."""
        if self.size == 1:
            return [item]
        items = [item] * self.size
        dist.all_gather_object(items, item)
        return items


ALONE = Team()


@contextmanager
def team(device: str) -> Iterator[Team]:
    """The team that `launch` started this process for.

    Raises:
        PipelineError: another process of the team is lost.
    """
    member = Team(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    place = member.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield member
    except dist.DistBackendError as error:
        raise PipelineError(f"process {member.rank} of {member.size} has lost another one: {error}") from error
    finally:
        dist.destroy_process_group()


def leave() -> NoReturn:
    """End this process, whose work is done, without what Python does at the end.

    There a thread of gloo has been seen to abort the process ("terminate called without an active exception"), rarely,
    which counted as a failure of the whole team.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def tell(kind: str, *content: object) -> None:
    """Send progress or an error to the process that called `launch`, as a line of JSON."""
    # One write per line: `print` writes the end of the line by itself where output is not buffered (PYTHONUNBUFFERED),
    # and what another process says could come between.
    sys.stdout.write(f"{MARK}{json.dumps([kind, *content])}\n")
    sys.stdout.flush()


@contextmanager
def own_cards(machine: Machine, say: Say = silent) -> Iterator[dict[str, str]]:
    """Hold a GPU for each of `machine.processes` during the block; waits until there are as many free ones.

    Args:
        machine: settings; on the CPU nothing is held.
        say: told for whom this waits.

    Yields:
        The variables of the environment that show the processes these GPUs and no others. None if there are too few
        GPUs, of which the processes tell in `Team.device`.
    """
    device, cards = pick_device(machine.device), visible_cards()
    if device.type != "cuda" or device.index is not None or len(cards) < machine.processes:
        yield {}
        return
    with hold_cards(cards, machine.processes, machine.processes, say) as held:
        yield {"CUDA_VISIBLE_DEVICES": ",".join(card.visible for card in held)}


def launch(
    processes: int,
    module: str,
    request: Path,
    progress: Progress | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Run `python -m module request` in several processes on this machine and wait for them.

    Args:
        processes: how many.
        module: its main function is given `request`; it reports with `tell`.
        request: a file with what the processes are to do.
        progress: called with what they report.
        environment: variables that they get in addition to those of this process.

    Raises:
        PipelineError: a process failed; holds the first error reported, or the last lines printed if there is none.
    """
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        "-m",
        module,
    ]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)} | dict(environment)
    variables.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    errors: list[str] = []
    tail: deque[str] = deque(maxlen=30)
    with subprocess.Popen(
        [*command, str(request)],
        stdin=subprocess.PIPE,
        process_group=0,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=variables,
    ) as child:
        assert child.stdout is not None, "it is a pipe"
        try:
            for line in child.stdout:
                try:
                    kind, *content = json.loads(line.partition(MARK)[2])
                except ValueError:  # not of `tell`, or a long line of it in the middle of which another process wrote
                    tail.append(line)
                    continue
                if kind == "error":
                    errors.append(content[0])
                elif progress:
                    progress(*content)
        except BaseException:
            child.terminate()
            raise
    if child.returncode:
        reason = errors[0] if errors else "one of them ended by itself; the last lines are\n" + "".join(tail)
        raise PipelineError(f"{processes} processes on {module}: {reason}")
