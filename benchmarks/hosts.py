"""Hosts on one machine: network namespaces of Linux on a bridge, and processes in them that can be killed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

__all__ = ["ENDPOINT", "MARK", "SCHEDULER", "Process", "left_over", "network"]

BRIDGE, BUCKET = "gigbridge", "10.77.0.1"
HOSTS = {"one": "10.77.0.2", "two": "10.77.0.3"}
ENDPOINT = f"http://{BUCKET}:9321"
"""Of the S3 server, which lies outside of both hosts."""
SCHEDULER = f"tcp://{HOSTS['one']}:8786"
MARK = "GIG_TWO_HOSTS"
"""Set in the environment of all processes, so that those that are left over are found."""


@contextmanager
def network() -> Iterator[None]:
    """A bridge and the hosts on it. Raises subprocess.CalledProcessError without the rights of root."""

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    with ExitStack() as stack:
        ip("link", "add", BRIDGE, "type", "bridge")
        stack.callback(ip, "link", "del", BRIDGE)
        ip("addr", "add", f"{BUCKET}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for name, address in HOSTS.items():
            ip("netns", "add", f"gig{name}")
            stack.callback(ip, "netns", "del", f"gig{name}")
            ip("link", "add", f"gig{name}", "type", "veth", "peer", "name", "e0", "netns", f"gig{name}")
            ip("link", "set", f"gig{name}", "master", BRIDGE, "up")
            ip("-n", f"gig{name}", "addr", "add", f"{address}/24", "dev", "e0")
            for device in ("e0", "lo"):
                ip("-n", f"gig{name}", "link", "set", device, "up")
        yield


class Process:
    """A process on a host.

    Args:
        role: its name.
        host: where it runs.
        command: what is run.
        folder: its working folder, with its log.
        environment: all of its environment.
    """

    def __init__(
        self, role: str, host: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.role = role
        self._command = ["ip", "netns", "exec", f"gig{host}", *command]
        self._folder, self._environment = folder, dict(environment)
        self._process: subprocess.Popen | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        with (self._folder / f"{self.role}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Send SIGKILL to it alone (`ip netns exec` becomes the command); its children must end by themselves."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """Ask it to end, and wait for that."""
        if self.alive and self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()


def left_over(patience_s: float) -> list[str]:
    """Command lines of processes with the mark, besides this one and what it waits for, after so much patience."""
    until = time.monotonic() + patience_s
    while found := [line for pid in _marked() if (line := _command_line(pid))]:
        if time.monotonic() > until:
            return found
        time.sleep(0.5)
    return []


def _marked() -> list[int]:
    wanted = f"{MARK}={os.getpid()}".encode()
    pids = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if int(path.parent.name) != os.getpid() and wanted in path.read_bytes().split(b"\0"):
                pids.append(int(path.parent.name))
        except OSError:
            continue
    return pids


def _command_line(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
    return "" if "moto_server" in line else line
