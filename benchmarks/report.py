"""How large is the page of a big test set, how long does it take to make, and when can a person use it?

Scores of 2,000 videos by two runs are made up, with 13 classes. The video files are links to a few generated ones, so
that every header is read and the pictures of the moments shown are made; no copies are. The time to use is measured in
headless Chromium, from opening index.html on disk to the table of videos being there. It needs the Python package
playwright and a Chromium, and is left out without them. The limits: an index of 5 MB, 60 s to make, 2 s to use.

    python benchmarks/report.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent.parent))

from cache.names import escape
from pipeline.config.events import Events
from pipeline.data.manifest import Interval, Manifest, VideoEntry
from pipeline.stages.report.report import write_report
from pipeline.stages.report.results import Results, RunResults

CLASSES = tuple(f"Class {number}" for number in range(1, 14))
LIMITS = {"index_mb": 5.0, "made_s": 60.0, "usable_s": 2.0}


def make_run(folder: Path, name: str, manifest: Manifest, generator: np.random.Generator) -> RunResults:
    """Score tables and an evaluation of one run: smooth noise that rises where something is annotated, mostly."""
    scores, evaluation = folder / f"scores-{name}", folder / f"evaluation-{name}"
    (scores / "frames").mkdir(parents=True)
    evaluation.mkdir()
    spans = {interval.video_id: interval for interval in manifest.intervals or ()}
    index = {}
    for entry in manifest.videos:
        general = 0.3 * np.convolve(generator.random(entry.packets + 24), np.ones(25) / 25, mode="valid")
        if entry.video_id in spans and generator.random() < 0.8:
            general[spans[entry.video_id].start_frame : spans[entry.video_id].end_frame] += (
                0.5 * generator.random() + 0.2
            )
        if generator.random() < 0.2:
            start = int(generator.integers(entry.packets))
            general[start : start + 60] += 0.6 * generator.random()
        general = np.clip(general, 0, 1).astype(np.float32)
        columns = {"frame": np.arange(entry.packets), "time_s": np.arange(entry.packets) / entry.fps, "score": general}
        columns |= {label: general * np.float32(generator.random()) for label in CLASSES}
        file = f"{escape(entry.video_id)}.parquet"
        pq.write_table(pa.table(columns), scores / "frames" / file)
        index[entry.video_id] = {"file": file, "decoded_frames": entry.packets}
    (scores / "index.json").write_text(json.dumps({"classes": CLASSES, "videos": index}))
    figures = {"frame_auc": {"value": 0.8, "low": 0.75, "high": 0.85}}
    (evaluation / "metrics.json").write_text(json.dumps({"head": "made up", "figures": figures, "warnings": []}))
    curve = np.linspace(0, 1, 100_000)
    columns = {"label": ["anomaly"] * len(curve), "threshold": 1 - curve, "true_positive_rate": np.sqrt(curve)}
    columns |= {"false_positive_rate": curve, "precision": 1 - 0.5 * curve}
    pq.write_table(pa.table(columns), evaluation / "curves.parquet")
    (evaluation / "per_class.csv").write_text("class,precision,recall,f1,ap,true_frames,predicted_frames\n")
    rows = "".join(f"{entry.video_id},0.5\n" for entry in manifest.videos)
    (evaluation / "per_video.csv").write_text(f"video_id,auc\n{rows}")
    return RunResults(name, "frozen", scores, evaluation)


def make_results(folder: Path, videos: int, frames: int) -> Results:
    """A test set of which half of the videos show an anomaly, and two runs on it."""
    generator, entries, intervals = np.random.default_rng(0), [], []
    for number in range(videos):
        labels = (CLASSES[number % 13],) if number % 2 else ()
        video_id, length = (
            f"camera-{number % 40:02d}/video_{number:04d}",
            int(generator.integers(frames // 2, frames * 3 // 2)),
        )
        entries.append(VideoEntry(video_id, f"{video_id}.mp4", "test", labels, None, 320, 240, 25.0, length, 10**6))
        intervals += [Interval(video_id, label, length // 3, length // 2) for label in labels]
    manifest = Manifest(folder / "videos", CLASSES, tuple(entries), tuple(intervals))
    runs = tuple(make_run(folder, name, manifest, generator) for name in ("gig", "rtfm"))
    return Results("made up", "none", "made up", "none", manifest, runs, (), "", Events(), folder)


def make_videos(folder: Path, manifest: Manifest, different: int = 4) -> None:
    """A file for every video: links to a few H.264 ones of 320 x 240 pixels, as long as the longest video."""
    frames = max(entry.packets for entry in manifest.videos)
    folder.mkdir(parents=True, exist_ok=True)
    kept = [folder / f"generated-{number}.mp4" for number in range(different)]
    for number, path in enumerate(kept):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "250"})
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            image = np.full((240, 320, 3), 30 * number, np.uint8)
            for index in range(frames):
                image[:, index % 300 : index % 300 + 20] = 200
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                image[:, index % 300 : index % 300 + 20] = 30 * number
            container.mux(stream.encode(None))
    for number, entry in enumerate(manifest.videos):
        path = folder / entry.path
        path.parent.mkdir(exist_ok=True)
        os.link(kept[number % different], path)


def usable(page: Path) -> dict[str, float] | None:
    """Seconds until the page can be used, to sort, and to filter; the median of three. None without a browser."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if not chromium:
        return None
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(3):
            tab = browser.new_page()
            start = time.monotonic()
            tab.goto(page.resolve().as_uri(), wait_until="commit")
            tab.wait_for_selector("html[data-ready] #rows tr", state="attached")
            opened = time.monotonic()
            tab.click("#videos-table th[data-column=peak] button")
            tab.wait_for_selector("th[data-column=peak][aria-sort=descending]")
            ordered = time.monotonic()
            tab.fill("#search", "video_1999")
            tab.wait_for_function("document.querySelectorAll('#rows tr').length === 1")
            found.append((opened - start, ordered - opened, time.monotonic() - ordered))
            tab.close()
        browser.close()
    return dict(zip(("usable_s", "sort_s", "filter_s"), np.median(found, axis=0).round(2).tolist(), strict=True))


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--frames", type=int, default=1500, help="mean length of a video")
    parser.add_argument("--keep", type=Path, help="write the report here and keep it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/report.json"))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="gig-report-") as scratch:
        results = make_results(Path(scratch), options.videos, options.frames)
        make_videos(results.manifest.root, results.manifest)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        target = options.keep or Path(scratch) / "report"
        start = time.monotonic()
        write_report(results, target)
        made_s = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        files = [path for path in target.rglob("*") if path.is_file()]
        result = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
            f"Python {platform.python_version()}",
            "videos": options.videos,
            "runs": len(results.runs),
            "pictures": len(list(target.glob("pictures/*.jpg"))),
            "frames": sum(entry.packets for entry in results.manifest.videos),
            "limits": LIMITS,
            "index_mb": round((target / "index.html").stat().st_size / 1e6, 2),
            "report_mb": round(sum(path.stat().st_size for path in files) / 1e6, 1),
            "made_s": round(made_s, 1),
            "more_memory_mb": round((after - before) / 1024, 1),
        } | (usable(target / "index.html") or {})
    text = json.dumps(result, indent=1)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n", encoding="utf-8")
    if any(result.get(name, 0) > limit for name, limit in LIMITS.items()):
        sys.exit("a limit is exceeded")


if __name__ == "__main__":
    main()
