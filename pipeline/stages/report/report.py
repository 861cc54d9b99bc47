"""From the outputs of an experiment to one folder of pages, in bounded memory: one video is held at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cache.errors import CacheError
from cache.names import escape
from pipeline.errors import PipelineError
from pipeline.progress import Progress, Say
from pipeline.remote import AnyPath
from pipeline.stages.report.index_page import Index, write_index
from pipeline.stages.report.judging import pick_highest, pick_highlights
from pipeline.stages.report.pictures import Patience, write_pictures
from pipeline.stages.report.playing import Medias, write_proxy
from pipeline.stages.report.results import Results
from pipeline.stages.report.video_page import write_video_page
from pipeline.stages.report.videos import Judged, judge_video, telling_frames

__all__ = ["Extras", "write_report"]

PICTURES_S, PICTURES_OF_VIDEO_S = 60.0, 15.0
"""For so long is decoded for pictures in all and of one video at a time, unless pictures of all videos are wanted."""


@dataclass(frozen=True)
class Extras:
    """What takes longer than the pages themselves.

    Attributes:
        all_pictures: pictures at the peaks of every video, however long that takes; else of the videos that the index
            shows first, within `PICTURES_S`.
        proxies: the folder in which copies that browsers play are kept, each made once; None makes none.
        maps: draws the relation maps of a video into a folder; None draws none.
    """

    all_pictures: bool = False
    proxies: Path | None = None
    maps: Callable[[str, Path], object] | None = None


def write_report(
    results: Results,
    folder: Path,
    extras: Extras | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> None:
    """Write index.html and a page for each test video; pictures, copies and maps that lie in `folder` are kept.

    Args:
        results: what the report is about.
        folder: where it goes; it can be opened from disk, and moved.
        extras: what else is made.
        progress: told what goes on.
        say: told of every kind of thing that could not be shown.

    Raises:
        PipelineError: scores, metrics or the manifest cannot be read.
    """
    videos = [entry.video_id for entry in results.manifest.split("test")]
    with Medias({video_id: results.video_path(video_id) for video_id in videos}) as medias:
        made = _Report(results, folder, extras or Extras(), progress or _nothing, medias)
        made.write()
    for line in made.failures():
        (say or _nothing)(line)


def _nothing(*told: object) -> None:
    """Tells nobody."""


class _Report:
    def __init__(self, results: Results, folder: Path, extras: Extras, progress: Progress, medias: Medias) -> None:
        self.results, self.folder, self.extras, self.progress = results, folder, extras, progress
        self.medias = medias
        self.videos = sorted(results.manifest.split("test"), key=lambda entry: entry.video_id)
        self.places = {entry.video_id: number for number, entry in enumerate(self.videos)}
        self.failed: dict[str, dict[str, str]] = {}
        self.patience = Patience() if extras.all_pictures else Patience(PICTURES_OF_VIDEO_S, PICTURES_S)

    def write(self) -> None:
        index = Index(self.results)
        for number, entry in enumerate(self.videos):
            self.progress(number, len(self.videos), f"page of {entry.video_id}")
            index.add(self._page(number, self.extras.all_pictures))
        pick = pick_highlights if self.results.with_truth else pick_highest
        highlights = [pick(verdicts) for verdicts in index.verdicts]
        moments = [moment for own in highlights for moment in own.all]
        chosen = list(dict.fromkeys(moment.video_id for moment in moments))
        steps = 2 * len(chosen)
        for done, video_id in enumerate(chosen):
            # Those that the index shows come before any others, in case that time runs out.
            self.progress(done, steps, f"pictures of {video_id}")
            frames = [moment.frame for moment in moments if moment.video_id == video_id]
            self._pictures(judge_video(self.results, self.results.manifest.video(video_id)), frames)
        if not self.extras.all_pictures or self.extras.maps:
            for done, video_id in enumerate(chosen, start=len(chosen)):
                self.progress(done, steps, f"more pictures of {video_id}")
                self._page(self.places[video_id], True, maps=True)
        write_index(self.folder, index, highlights)
        self.progress(len(self.videos), len(self.videos), "done")

    def failures(self) -> list[str]:
        """What could not be shown, a line for each kind."""
        lines = []
        for what, reasons in self.failed.items():
            more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
            first = next(iter(reasons.values()))
            lines.append(f"warning: no {what} of {len(reasons)} video(s): {first}{more}")
        return lines

    def _pictures(self, judged: Judged, frames: Iterable[int]) -> None:
        """Pictures of some frames of a video, as far as they can be made."""
        video_id = judged.entry.video_id
        path = self.results.video_path(video_id)
        if path and video_id not in self.failed.get("pictures", ()):
            known = self.results.timed and video_id not in self.results.by_rate
            times = judged.scores[0].times_s if known else None
            wanted, folder = list(frames), self.folder / "pictures"
            self._try(
                "pictures",
                video_id,
                lambda: write_pictures(folder, video_id, path, wanted, times, self.patience),
            )

    def _page(self, number: int, pictures: bool, maps: bool = False) -> Judged:
        entry = self.videos[number]
        path = self.results.video_path(entry.video_id)
        judged = judge_video(self.results, entry)
        if pictures:
            self._pictures(judged, [moment.frame for moment in telling_frames(judged)])
        if maps and self.extras.maps:
            draw, target = self.extras.maps, self.folder / "maps" / escape(entry.video_id)
            self._try("relation maps", entry.video_id, lambda: draw(entry.video_id, target))
        before, after = (
            self.videos[n].video_id if 0 <= n < len(self.videos) else None for n in (number - 1, number + 1)
        )
        proxy = self._proxy(entry.video_id, path) if path and self.results.timed else None
        media = self.medias.of(entry.video_id)
        write_video_page(self.folder, self.results, judged, media, before, after, proxy)
        return judged

    def _proxy(self, video_id: str, path: AnyPath) -> Path | None:
        """The copy of a video that browsers do not play, linked into the report."""
        final = self.folder / "proxies" / f"{escape(video_id)}.mp4"
        store = self.extras.proxies
        if store and not final.exists() and path.exists() and not self.medias.of(video_id).playable:
            kept = store / final.name

            def make() -> None:
                if not kept.exists():
                    write_proxy(path, kept)
                if kept == final:
                    return
                final.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(kept, final)
                except OSError:  # another disk, or a file system without links
                    shutil.copyfile(kept, final)

            self._try("copy for browsers", video_id, make)
        return final if final.exists() else None

    def _try(self, what: str, video_id: str, make: Callable[[], object]) -> None:
        """The page is worth having without it; that it is missing is said at the end, once of a video."""
        try:
            make()
        except (PipelineError, CacheError, OSError, ValueError) as error:
            told = str(error) if video_id in str(error) else f"{video_id}: {error}"
            self.failed.setdefault(what, {})[video_id] = told
