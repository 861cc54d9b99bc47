"""What every benchmark's result says of the machine and the command, and where it is written."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["command_line", "machine", "write_result"]


def machine() -> str:
    """Processor architecture, number of cores and version of Python, for a result."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def command_line() -> str:
    """The command that was run, to run it again."""
    script = Path(sys.argv[0]).name
    return f"python benchmarks/{script} {shlex.join(sys.argv[1:])}".strip()


def write_result(path: Path, document: Mapping[str, object]) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
