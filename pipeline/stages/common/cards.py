"""The GPUs of this machine, and who uses which: a process that loads a model onto a card holds the lock of that card.

So no two commands, tasks of luigi, or processes of one extraction have a model on the same card: the second takes
another one, or waits. The locks lie in a folder of the machine that all users share, in whichever output folders they
work; the system releases a lock when its process ends, however it does. A process waits for cards only while it holds
none, so that no two wait for each other.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pipeline.errors import ConfigError
from pipeline.progress import Say, silent
from pipeline.stages.common.device import pick_device

__all__ = ["Card", "hold_cards", "use_device", "visible_cards"]

FOLDER = Path("/tmp/gig-vad-cards")  # not TMPDIR, which can differ between the jobs of a machine
PAUSE_S = 0.5
UUID_BYTES = 96


@dataclass(frozen=True)
class Card:
    """A CUDA device that this process sees.

    Attributes:
        index: its number in this process.
        visible: the value of CUDA_VISIBLE_DEVICES with which a process sees this card alone.
        name: what it is called on this machine, in every process: its UUID where that is known.
        lock: descriptor of its locked file, to be inherited by a process that works on it; None while it is not held.
    """

    index: int
    visible: str
    name: str
    lock: int | None = None


def visible_cards() -> list[Card]:
    """The CUDA devices that this process sees, in torch's order. It does not begin to use them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    entries = [entry.strip() for entry in named.split(",")] if named else [str(number) for number in range(count)]
    uuids = _uuids() if count else []
    return [Card(index, entry, _name(entry, uuids)) for index, entry in enumerate(entries[:count])]


@contextmanager
def use_device(name: str, say: Say = silent) -> Iterator[torch.device]:
    """The device to load a model onto; while the block lasts, no other process gets the same card.

    Of `auto` and `cuda` it is the first card that is free. When none is, this waits.

    Args:
        name: `machine.device`.
        say: told for whom this waits.

    Raises:
        ConfigError: there is no such device.
    """
    device = pick_device(name)
    if device.type != "cuda":
        yield device
        return
    cards = visible_cards()
    with hold_cards(cards if device.index is None else [cards[device.index]], 1, 1, say) as (card,):
        try:
            yield torch.device("cuda", card.index)
        finally:
            gc.collect()  # what the model took is given back with the card
            torch.cuda.empty_cache()


@contextmanager
def hold_cards(cards: Sequence[Card], least: int, most: int, say: Say = silent) -> Iterator[list[Card]]:
    """Hold some of the cards, as many as are free; wait, holding none of them, while fewer than `least` are free.

    Args:
        cards: which to choose from; those come first that this process holds already.
        least: how many are needed.
        most: how many are wanted.
        say: told for whom this waits.

    Raises:
        ConfigError: there are fewer than `least`.
    """
    if least > len(cards):
        raise ConfigError(f"machine: expected {least} CUDA device(s), got {len(cards)}")
    told = None
    while True:
        with ExitStack() as stack:
            held: list[Card] = []
            others: list[str] = []
            for card in sorted(cards, key=lambda card: _key(card) not in _own):
                if len(held) < most:
                    lock, holder = stack.enter_context(_try(card, say))
                    if holder:
                        others.append(f"{holder} uses {card.name}")
                    else:
                        held.append(replace(card, lock=lock))
            if len(held) >= least:
                yield held
                return
        waiting = f"waiting for {least} free GPU(s) of {len(cards)}: {', '.join(others)}"
        if waiting != told:
            say(waiting)
            told = waiting
        time.sleep(PAUSE_S)


@contextmanager
def _try(card: Card, say: Say) -> Iterator[tuple[int | None, str | None]]:
    """Try to hold a card during the block; gives the descriptor of its lock, and who holds it if somebody else does."""
    key = _key(card)
    own = _own.get(key)
    if own is None:
        try:
            lock = _open(FOLDER / card.name.replace("/", "_"))
        except OSError as error:
            say(f"warning: {card.name} is used without a lock: {error.strerror} ({error.filename})")
            yield None, None
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 200, 0).decode(errors="replace")
            os.close(lock)
            yield None, holder or "another process"
            return
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        own = _own[key] = _Own(lock)
    own.times += 1
    try:
        yield own.lock, None
    finally:
        own.times -= 1
        if not own.times:
            del _own[key]
            os.close(own.lock)


@dataclass
class _Own:
    """The lock of a card that this process holds, and how many times over."""

    lock: int
    times: int = 0


_own: dict[tuple[int, str], _Own] = {}


def _key(card: Card) -> tuple[int, str]:
    return os.getpid(), card.name  # a process forked by luigi holds nothing of what its parent holds


def _open(path: Path) -> int:
    """Open the file of a lock, which the users of the machine share."""
    with suppress(FileExistsError):
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o1777)  # whatever the umask is
    with suppress(FileExistsError):
        new = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.fchmod(new, 0o666)
        return new
    return os.open(path, os.O_RDWR | os.O_NOFOLLOW)  # O_CREAT would be refused for the file of another user


def _name(entry: str, uuids: Sequence[str]) -> str:
    """The name of the card of an entry of CUDA_VISIBLE_DEVICES: a number, a UUID, or the beginning of one."""
    if entry.isdigit():
        return uuids[int(entry)] if int(entry) < len(uuids) else f"cuda-{int(entry)}"
    whole = [uuid for uuid in uuids if uuid.startswith(entry)]
    return whole[0] if len(whole) == 1 else entry


def _uuids() -> list[str]:
    """The UUIDs of the machine's NVIDIA GPUs in the order of nvidia-smi; none where its library is not there."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        return _read_uuids(nvml)
    except (OSError, AttributeError):
        return []


def _read_uuids(nvml: ctypes.CDLL) -> list[str]:
    count, found = ctypes.c_uint(), []
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    for index in range(count.value):
        handle, text = ctypes.c_void_p(), ctypes.create_string_buffer(UUID_BYTES)
        failed = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle))
        if failed or nvml.nvmlDeviceGetUUID(handle, text, ctypes.c_uint(UUID_BYTES)):
            return []
        found.append(text.value.decode("ascii"))
    return found
