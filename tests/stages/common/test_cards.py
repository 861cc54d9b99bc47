"""Which GPUs there are, and that no two processes use the same one."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import time
from pathlib import Path

import pytest
import torch

from pipeline.config.machine import Machine
from pipeline.errors import ConfigError
from pipeline.stages.common import cards
from pipeline.stages.common.cards import Card, hold_cards, use_device, visible_cards
from pipeline.stages.finetuning.team import own_cards

UUIDS = ["GPU-aaaa-0", "GPU-aabb-1", "GPU-cccc-2"]
CARDS = [Card(index, str(index), uuid) for index, uuid in enumerate(UUIDS)]


def hold(names: list[str], held) -> None:
    with hold_cards([Card(0, "0", name) for name in names], len(names), len(names)):
        held.set()
        time.sleep(600)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "FOLDER", tmp_path / "cards")
    monkeypatch.setattr(cards, "PAUSE_S", 0.01)
    return tmp_path / "cards"


@pytest.fixture
def machine(monkeypatch):
    """A machine with three GPUs, of which CUDA_VISIBLE_DEVICES makes some visible."""

    def make(visible: str | None, uuids: list[str] = UUIDS) -> list[Card]:
        monkeypatch.setattr(cards, "_uuids", lambda: uuids)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(visible.split(",")) if visible else 3)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return visible_cards()

    return make


@pytest.fixture
def holding():
    """Start a process that holds cards."""
    fork, processes = multiprocessing.get_context("fork"), []

    def start(*names: str) -> multiprocessing.Process:
        held = fork.Event()
        processes.append(fork.Process(target=hold, args=(list(names), held), daemon=True))
        processes[-1].start()
        assert held.wait(300)
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.join()


class TestVisibleCards:
    def test_without_a_gpu_there_are_none(self):
        if torch.cuda.is_available():
            pytest.skip("there is one")
        assert visible_cards() == []

    @pytest.mark.parametrize(
        ("visible", "names"),
        [(None, UUIDS), ("2,0", [UUIDS[2], UUIDS[0]]), ("GPU-cc, GPU-aaaa-0", [UUIDS[2], UUIDS[0]])],
    )
    def test_a_card_has_the_same_name_however_it_was_made_visible(self, machine, visible, names):
        assert [card.name for card in machine(visible)] == names

    def test_a_process_can_be_given_a_card_of_those_that_are_visible(self, machine):
        assert [card.visible for card in machine("2,0")] == ["2", "0"]
        assert [card.index for card in machine("2,0")] == [0, 1]

    def test_names_that_no_driver_explains_are_taken_as_they_are(self, machine):
        assert [card.name for card in machine("1,3", [])] == ["cuda-1", "cuda-3"]
        assert [card.name for card in machine("MIG-1234,GPU-aa", UUIDS)] == ["MIG-1234", "GPU-aa"]

    def test_the_driver_is_asked_for_the_uuids(self):
        class Driver:
            """Answers as libnvidia-ml does: 0 for success, results written to the addresses given."""

            def nvmlInit_v2(self):
                return 0

            def nvmlDeviceGetCount_v2(self, count):
                count._obj.value = 2
                return 0

            def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
                handle._obj.value = 100 + index.value
                return 0

            def nvmlDeviceGetUUID(self, handle, text, size):
                assert ctypes.sizeof(text) == size.value
                text.value = f"GPU-{handle.value}".encode()
                return 0

        assert cards._read_uuids(Driver()) == ["GPU-100", "GPU-101"]


class TestHolding:
    def test_the_cpu_is_not_locked(self, folder):
        with use_device("cpu") as device:
            assert device == torch.device("cpu")
        assert not folder.exists()

    def test_a_second_process_takes_the_next_card_and_one_that_dies_gives_its_card_back(self, machine, holding):
        machine(None)
        other = holding(UUIDS[0])
        with use_device("auto") as device:
            assert device == torch.device("cuda", 1)
        other.kill()
        other.join()
        with use_device("auto") as device:
            assert device == torch.device("cuda", 0)

    def test_whoever_finds_no_card_free_waits_and_says_for_whom(self, machine, holding):
        machine("1")
        other, told = holding(UUIDS[1]), []

        def say(message: str) -> None:
            told.append(message)
            other.kill()

        with use_device("auto", say) as device:
            assert device == torch.device("cuda", 0)
        assert len(told) == 1
        assert told[0].startswith(f"waiting for 1 free GPU(s) of 1: process {other.pid} on ")
        assert told[0].endswith(f" uses {UUIDS[1]}")

    def test_a_card_that_is_named_is_waited_for_although_another_is_free(self, machine, holding):
        machine(None)
        other, told = holding(UUIDS[1]), []
        with use_device("cuda:1", lambda message: (told.append(message), other.kill())) as device:
            assert device == torch.device("cuda", 1)
        assert told

    def test_as_many_as_are_free_are_held_and_no_more_than_are_wanted(self, holding):
        holding(UUIDS[1])
        with hold_cards(CARDS, 1, 3) as held:
            assert [card.index for card in held] == [0, 2]
        with hold_cards(CARDS, 1, 1) as held:
            assert [card.index for card in held] == [0]

    def test_nothing_is_held_while_one_of_several_is_waited_for(self, holding):
        other = holding(UUIDS[2])

        def say(message: str) -> None:
            if other.is_alive():
                third = holding(*UUIDS[:2])  # it would never hold them if this process held one of them
                for process in (third, other):
                    process.kill()
                    process.join()

        with hold_cards(CARDS, 3, 3, say) as held:
            assert [card.index for card in held] == [0, 1, 2]

    def test_a_process_uses_its_own_card_again_and_keeps_it_until_the_last_use_ends(self, machine, folder):
        machine("0")
        first, second = use_device("auto"), use_device("auto")
        assert first.__enter__() == second.__enter__() == torch.device("cuda", 0)
        first.__exit__(None, None, None)
        assert self.is_locked(folder / UUIDS[0])
        second.__exit__(None, None, None)
        assert not self.is_locked(folder / UUIDS[0])

    def test_a_process_that_inherits_the_lock_holds_the_card(self, folder):
        with hold_cards(CARDS, 1, 1) as (card,):
            child = subprocess.Popen(["sleep", "600"], pass_fds=(card.lock,))
        assert self.is_locked(folder / UUIDS[0])
        child.kill()
        child.wait()
        assert not self.is_locked(folder / UUIDS[0])

    def test_other_users_can_lock_the_same_files(self, folder):
        before = os.umask(0o077)
        try:
            with hold_cards(CARDS, 1, 1):
                assert folder.stat().st_mode & 0o7777 == 0o1777
                assert (folder / UUIDS[0]).stat().st_mode & 0o777 == 0o666
        finally:
            os.umask(before)

    def test_without_a_place_for_locks_cards_are_used_and_a_warning_says_so(self, folder):
        folder.write_text("in the way")
        told = []
        with hold_cards(CARDS, 1, 1, told.append) as held:
            assert [card.index for card in held] == [0]
        assert told == [f"warning: {UUIDS[0]} is used without a lock: Not a directory ({folder / UUIDS[0]})"]

    def test_a_team_is_shown_as_many_free_cards_as_it_has_processes(self, machine, holding):
        machine(None)
        holding(UUIDS[1])
        with own_cards(Machine(processes=2)) as environment:
            assert environment == {"CUDA_VISIBLE_DEVICES": "0,2"}
        with own_cards(Machine(device="cpu", processes=2)) as environment:
            assert environment == {}

    def test_more_cards_than_there_are_is_an_error_not_a_wait(self):
        with pytest.raises(ConfigError, match=r"expected 4 CUDA device\(s\), got 3"), hold_cards(CARDS, 4, 4):
            raise AssertionError("not reached")

    @staticmethod
    def is_locked(path: Path) -> bool:
        return subprocess.run(["flock", "--nonblock", str(path), "true"], check=False).returncode != 0
