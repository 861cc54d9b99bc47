"""The work of one night, from the files of an inbox to a complete day."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.errors import OutputError, PipelineError
from pipeline.progress import Progress, Say
from pipeline.remote import public
from pipeline.stages.common.outputs import whole_file
from pipeline.stages.detector.detector import Detector
from pipeline.stages.nightly import dataset
from pipeline.stages.nightly.collecting import Collected, collect
from pipeline.stages.nightly.dataset import File
from pipeline.stages.nightly.days import Day, Night, day_path, write_day
from pipeline.stages.nightly.ledger import Ledger
from pipeline.stages.nightly.looks import find_zone
from pipeline.stages.nightly.page import write_day_page, write_pages_around
from pipeline.stages.nightly.sorting import (
    CHANGED,
    NewFile,
    Rules,
    Sorted,
    is_same,
    known_file,
    left_file,
    sort_files,
    told_file,
)
from pipeline.stages.scoring.inputs import Inputs, find_videos
from pipeline.stages.scoring.score_index import check_same
from pipeline.stages.scoring.score_loose import ScoreReport, quarantine_of, score_sources
from pipeline.stages.scoring.sources import Video
from pipeline.stages.scoring.video_scores import table_facts, table_path

__all__ = ["OWNER", "Run"]

WORK, PUTTING = ".work", "putting"
SHOWN = 5
OWNER = "detector.json"


class Run:
    """The work of one call, by the process that holds the lock."""

    def __init__(self, detector: Detector, night: Night, progress: Progress, say: Say) -> None:
        self.detector, self.night, self.progress, self.say = detector, night, progress, say
        self.folder, self.date = night.folder, night.date
        self.work = night.folder / WORK  # of whatever day: that of the next night is another one after a kill
        self.rules = Rules(night.date, find_zone(night.zone), night.settle_s, night.now_s)
        self.quarantine = quarantine_of(night.folder)
        self.started = _now(night)

    def run(self) -> Day:
        dataset.check_classes(self.detector.classes)
        self._own()
        self._tidy()
        for note in self.detector.notes():
            self.say(f"warning: {note}")
        inputs = self._look()
        ledger = Ledger.load(self.folder, self.started)
        if ledger.zone not in ("", self.night.zone):
            self.say(f"warning: days were those of {ledger.zone} before, and are those of {self.night.zone} now")
        found = sort_files(inputs.videos, ledger, self.rules, self.quarantine.has, self.progress)
        if waiting := [left for left in found.left if not left.problem]:
            self.say(f"left for a later run: {', '.join(f'{left.video_id} ({left.reason})' for left in waiting)}")
        rows, failed = self._score(found, ledger, {video.place for video in inputs.videos})
        return self._finish(inputs, found, rows, failed)

    def _own(self) -> None:
        """Raise OutputError where the dataset is of another detector."""
        scorer, path = self.detector.scorer(), self.folder / OWNER
        if path.exists():
            try:
                held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["made_with"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise OutputError(f"{path}: not the note of a dataset of days ({error!r})") from error
            check_same(path, held, json.loads(json.dumps(scorer.made_with)), "give another --out")
            return
        facts = {**scorer.about, "made_with": scorer.made_with}
        with whole_file(path) as partial:
            partial.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")

    def _tidy(self) -> None:
        """After a run that was killed while it put a day into the dataset: take out a day that it did not complete,
        whose files this run takes, and the work of one that it did."""
        mark = self.work / PUTTING
        if not mark.exists():
            return
        date = datetime.date.fromisoformat(mark.read_text(encoding="utf-8"))
        if day_path(self.folder, date).exists():
            shutil.rmtree(self.work)
            return
        for kind in dataset.KINDS:
            shutil.rmtree(dataset.partition(self.folder, kind, date), ignore_errors=True)
        mark.unlink()

    def _look(self) -> Inputs:
        self.progress(0, 1, "looking at the inbox")
        inputs = find_videos(self.night.inbox, self.folder)
        if inputs.unreachable and not inputs.videos:
            raise PipelineError(
                "the inbox cannot be looked at; the day stays open\n  " + "\n  ".join(inputs.unreachable)
            )
        names: dict[str, Video] = {}
        for video in inputs.videos:
            before = names.setdefault(video.name, video)
            if before.place != video.place:
                raise PipelineError(
                    f"{before.given} and {video.given}: two videos of the same name; give the folder that holds both"
                )
        return Inputs(tuple(names.values()), inputs.passed_over, inputs.unreachable)

    def _score(self, found: Sorted, ledger: Ledger, places: set[str]) -> tuple[list[File], dict[str, str]]:
        """Score the new files; gives the rows of all files of the day, and why some could not be scored."""
        rows = list(found.known)
        scored_now: dict[str, tuple[str, str]] = {}
        report = self._score_videos(found.new, ledger)
        failed: dict[str, str] = {}
        for name, new in found.new.items():
            if name in report.failed:
                reason = report.failed[name]
                if name in report.unreached or not self._stayed(new, None):
                    problem = name in report.unreached
                    found.left.append(left_file(new.video, new.look, None, self.rules, reason, problem))
                    continue
                failed[name] = reason
                rows.append(told_file(new, "failed", new.sha256 or "", reason=reason))
            elif name in report.known:
                content = report.known[name]
                rows.append(known_file(new, content, ledger.scored[content], places, found.recognised))
            else:
                source = self._facts(name)["source"]
                content = str(source["sha256"])
                if not self._stayed(new, content):
                    found.left.append(left_file(new.video, new.look, None, self.rules, CHANGED))
                elif content in scored_now:
                    rows.append(told_file(new, "copy", content, scored_now[content]))
                else:
                    scored_now[content] = self.date.isoformat(), name
                    rows.append(told_file(new, "scored", content, scored_now[content]))
        for twin in found.twins:
            content = twin.sha256 or ""
            if content in scored_now:
                rows.append(told_file(twin, "copy", content, scored_now[content]))
            else:
                reason = "a file with the same content could not be scored"
                found.left.append(left_file(twin.video, twin.look, None, self.rules, reason))
        return rows, failed

    def _score_videos(self, new: dict[str, NewFile], ledger: Ledger) -> ScoreReport:
        """The one place where videos are scored: their tables go to the hidden folder, and those that a killed run has
        left there are kept."""
        self.work.mkdir(parents=True, exist_ok=True)
        for name, file in new.items():
            path = table_path(self.work, name)
            if not path.exists():
                continue
            source = self._facts(name)["source"]
            same = file.video.place == source["path"] if file.sha256 is None else file.sha256 == source["sha256"]
            if not same:
                path.unlink()  # of another file, which had this name when a run was killed
        return score_sources(
            self.detector.scorer(),
            [file.video for file in new.values()],
            self.work,
            progress=self.progress,
            say=self.say,
            known=lambda video, content: content in ledger.scored,
        )

    def _stayed(self, new: NewFile, content: str | None) -> bool:
        """Whether a file of this machine is still as it was when its content was read, and its scores are of that."""
        if new.sha256 is None:
            return True  # a copy was scored
        try:
            return content in (None, new.sha256) and is_same(new.video, new.look)
        except OSError:
            return content == new.sha256  # it is gone, after it was scored

    def _facts(self, name: str) -> dict[str, Any]:
        facts = table_facts(table_path(self.work, name))
        if facts is None:
            raise OutputError(f"{table_path(self.work, name)}: a table that says nothing of its file; remove it")
        return facts

    def _finish(self, inputs: Inputs, found: Sorted, rows: Sequence[File], failed: dict[str, str]) -> Day:
        """Give the dataset the day, write its page, and then its record."""
        parts = self.work / "parts"
        shutil.rmtree(parts, ignore_errors=True)
        scored = [
            replace(row, damage=_damage(self._facts(row.video_id)["damage"])) for row in rows if row.state == "scored"
        ]
        collected = collect(scored, self.work, parts / "scores", self.detector.classes, self.detector.rules)
        told = [video.file for video in collected.shown] + [row for row in rows if row.state != "scored"]
        with whole_file(self.work / PUTTING) as partial:  # from here on the day is to be seen, and not complete
            partial.write_text(self.date.isoformat(), encoding="utf-8")
        dataset.put(self.folder, parts, self.date, self.detector.classes, collected.events, told)
        self._keep_quarantine(failed, scored)
        day = self._day(inputs, found, rows, failed, collected)
        write_day_page(self.folder, day, collected.shown, told, self.detector.rules, self.progress, self.say)
        write_day(self.folder, day)
        write_pages_around(self.folder, self.date)
        shutil.rmtree(self.work, ignore_errors=True)
        return day

    def _keep_quarantine(self, failed: dict[str, str], scored: Sequence[File]) -> None:
        source = quarantine_of(self.work)
        there = self.quarantine.ids() if self.quarantine.folder.is_dir() else []
        self.quarantine.clear([row.video_id for row in scored if row.video_id in there])
        for path in source.folder.glob("*.json") if source.folder.is_dir() else ():
            if json.loads(path.read_text(encoding="utf-8"))["video_id"] in failed:
                self.quarantine.folder.mkdir(parents=True, exist_ok=True)
                with whole_file(self.quarantine.folder / path.name) as partial:
                    shutil.copyfile(path, partial)

    def _day(
        self,
        inputs: Inputs,
        found: Sorted,
        rows: Sequence[File],
        failed: dict[str, str],
        collected: Collected,
    ) -> Day:
        events = dict.fromkeys(self.detector.rules, 0)
        for event in collected.events:
            events[event.class_name] += 1
        states = [row.state for row in rows]
        document = self.detector.document
        return Day(
            date=self.date,
            detector={"name": document.name, "seal": self.detector.seal},
            inbox=tuple(_plain(_public(text)) for text in self.night.inbox),
            zone=self.night.zone,
            settle_s=self.night.settle_s,
            started=self.started,
            finished=_now(self.night),
            seen=len(inputs.videos),
            unchanged=found.unchanged,
            scored=states.count("scored"),
            moved=states.count("moved"),
            copies=states.count("copy"),
            failed=failed,
            still_failing=tuple(found.still_failing),
            left=tuple(found.left),
            later=found.later,
            unreachable=tuple(_plain(text) for text in inputs.unreachable),
            passed_over=len(inputs.passed_over),
            passed_over_first=tuple(_plain(text) for text in inputs.passed_over[:SHOWN]),
            events=events,
            hours=collected.seconds / 3600,
            warnings=(*document.warnings, *self.detector.notes()),
        )


def _damage(facts: dict[str, Any] | None) -> str:
    """What was lost of a video, in words."""
    if not facts:
        return ""
    lost = sum(stop - start for start, stop in facts.get("lost", ()))
    return f"{lost} frames lost" if lost else "damaged, no frame lost"


def _public(text: str) -> str:
    return public(text) if "://" in text else text


def _plain(text: str) -> str:
    """Names of files need not be Unicode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _now(night: Night) -> str:
    return datetime.datetime.fromtimestamp(night.now_s(), datetime.UTC).isoformat(timespec="seconds")
