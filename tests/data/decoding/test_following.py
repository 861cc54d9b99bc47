"""Processes that end with the one that made them, and ignore its Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import ROOT

from pipeline.data.decoding.following import deaf_to_interrupts

FORKS = """
import multiprocessing, os, sys, time
from pipeline.data.decoding.following import end_with_parent

def child(late):
    if late:
        time.sleep(1)  # its parent is gone by then
    end_with_parent()
    os.write(1, f'{os.getpid()}\\n'.encode())  # in one piece
    time.sleep(600)

end_with_parent()  # nothing to follow: this process was made by no other one of ours
process = multiprocessing.get_context("fork").Process(target=child, args=(bool(sys.argv[1:]),))
process.start()
os.write(1, f'{process.pid}\\n'.encode())
time.sleep(600)
"""


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("late", [[], ["late"]])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_forked_process_ends_with_its_parent(how, late):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", FORKS, *late], env=environment, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    if not late:
        assert int(parent.stdout.readline()) == child  # it follows now
    parent.send_signal(how)
    parent.wait()
    deadline = time.monotonic() + 300
    while not is_gone(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert is_gone(child)


def test_who_starts_deaf_does_not_hear_ctrl_c_and_who_starts_later_does():
    command = [sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"]
    with deaf_to_interrupts():
        deaf = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert deaf.strip() == "True"
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"
