import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc")

CODE = """
import resource
import torch
from pipeline.stages.common.malloc import heap_kept

def resident():
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize() / 2**20

def fill():
    torch.empty(16 * 2**20).fill_(1)  # 64 MiB

fill()
start = resident()
with heap_kept(torch.device(DEVICE)):
    fill()
    within = resident()
print(within - start, resident() - start)
"""


def resident_mib(device: str) -> tuple[float, float]:
    """How much of a freed buffer of 64 MiB is resident, in the block and after it."""
    output = subprocess.run(
        [sys.executable, "-c", CODE.replace("DEVICE", repr(device))], check=True, capture_output=True, text=True
    )
    within, after = map(float, output.stdout.split())
    return within, after


def test_a_freed_buffer_is_kept_within_and_given_back_after() -> None:
    within, after = resident_mib("cpu")
    assert within > 48
    assert after < 16


def test_other_devices_change_nothing() -> None:
    within, after = resident_mib("meta")
    assert within < 16
    assert after < 16
