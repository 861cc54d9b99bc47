"""The pages as files: what they say, and that no name in them is more than a name."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
from made_up import bump, entry, make_results, make_run

from pipeline.data.decoding import decode
from pipeline.data.manifest import Interval
from pipeline.stages.report import pictures, report
from pipeline.stages.report.metrics import metric_rows
from pipeline.stages.report.pages import safe_json
from pipeline.stages.report.pictures import Patience, TooLong, write_pictures
from pipeline.stages.report.playing import find_media
from pipeline.stages.report.report import Extras, write_report
from pipeline.stages.report.results import Results

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(2)</script>',
    "</script><script>alert(3)</script>",
    "' onmouseover='alert(4)",
    "javascript:alert(5)",
    "<!--<script>",
)
CLASSES = ("__proto__", '<b onclick="alert(6)">')
VOID = {"meta", "link", "input", "img", "br", "hr"}


class Page(HTMLParser):
    """A page as elements; every element must be closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] == "script" else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def hostile(tmp_path) -> Results:
    """Videos and classes whose names are markup; two runs."""
    videos = [entry(name, *([CLASSES[number % 2]] if number % 3 else [])) for number, name in enumerate(HOSTILE)]
    intervals = [Interval(video.video_id, video.labels[0], 40, 60) for video in videos if video.labels]
    runs = [
        make_run(tmp_path, name, CLASSES, {video.video_id: bump(100, height, 45, 55) for video in videos})
        for name, height in (("gig", 0.9), ("other", 0.3))
    ]
    return make_results(tmp_path, CLASSES, videos, intervals, runs, [("<i>gone</i>", "<u>broken</u>")])


@pytest.fixture
def pages(hostile, tmp_path) -> list[Page]:
    write_report(hostile, tmp_path / "report")
    return [Page(path) for path in sorted((tmp_path / "report").rglob("*.html"))]


def test_there_is_an_index_and_a_page_for_every_video(pages):
    assert len(pages) == 1 + len(HOSTILE)


def test_names_are_text_and_nothing_else(pages):
    allowed = {"script": 2, "style": 1, "meta": 3}
    for page in pages:
        assert {name: len(page.find(name)) for name in allowed} == allowed
        assert [name for name in ("b", "i", "u") if page.find(name)] == []
        assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
        assert not [
            attributes["href"] for attributes in page.find("a") if re.match(r"\s*\w+:", attributes["href"] or "")
        ]
        assert "style" not in {key for _, attributes in page.elements for key in attributes}
    headings = {page.text for page in pages}
    for name in HOSTILE:
        assert any(name in text for text in headings), name


def test_the_policy_allows_the_scripts_that_are_shipped_and_no_others(pages):
    for page in pages:
        policy = next(m["content"] for m in page.find("meta") if m.get("http-equiv") == "Content-Security-Policy")
        hashed = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
        assert f"script-src 'sha256-{hashed}';" in policy
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "http" not in policy


def test_every_link_leads_to_a_file(pages, tmp_path):
    from urllib.parse import unquote

    folder = tmp_path / "report"
    for path in folder.rglob("*.html"):
        for attributes in Page(path).find("a"):
            target = unquote((attributes["href"] or "").partition("#")[0])
            assert target == "" or (path.parent / target).is_file(), target


def test_data_in_a_script_element_ends_where_it_should():
    text = safe_json({"name": "</script><!--<script>&\u2028", "__proto__": ["'\""]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"name": "</script><!--<script>&\u2028", "__proto__": ["'\""]}
    with pytest.raises(ValueError, match="JSON"):
        safe_json(float("nan"))


def test_the_index_says_what_was_run_and_what_was_left_out(pages):
    text = pages[0].text
    for said in (
        "6 test videos of mine, 4 with an annotated anomaly",
        "1 video could not be read and has no part in it",
        "<u>broken</u>",
        "one <b>warning</b>",
        "0.800",
        "0.700 to 0.900",
        "no class",
        "experiment: x",
    ):
        assert said in text
    assert text.index("Worst misses") > text.index("Worst false alarms")


def test_where_nothing_is_annotated_the_lists_say_so(tmp_path):
    run = make_run(tmp_path, "gig", ("A",), {"v": bump(100, 0.6, 40, 50)})
    write_report(make_results(tmp_path, ("A",), [entry("v")], [], [run]), tmp_path / "report")
    text = Page(tmp_path / "report" / "index.html").text
    assert text.count("Nothing is annotated.") == 2
    assert "Everything annotated was found" not in text


def test_every_headline_leads_to_its_meaning(pages):
    links = [attributes for attributes in pages[0].find("a") if (attributes["href"] or "").startswith("#metric-")]
    places = {attributes.get("id") for attributes in pages[0].find("tr")}
    assert {attributes["href"][1:] for attributes in links} <= places
    assert "area under the ROC curve of all frames; 0.5 is chance" in {attributes["title"] for attributes in links}


def test_a_run_that_names_its_rules_is_judged_by_them(tmp_path):
    videos = [entry("v")]
    scores = {"v": bump(100, 0.6, 40, 50)}
    rule = {"upper": 0.7, "lower": 0.2, "merge_gap_s": 0.0, "min_length_s": 0.0}
    strict = make_run(tmp_path, "strict", ("A",), scores, events={"rules": {"anomaly": rule, "A": rule}})
    plain = make_run(tmp_path, "plain", ("A",), scores)
    write_report(make_results(tmp_path, ("A",), videos, [], [strict, plain]), tmp_path / "report")
    text = Page(tmp_path / "report" / "videos" / "v.html").text
    assert "strict: no false alarm" in text
    assert "plain: 1 false alarm" in text
    assert "strict: An event begins where the score reaches 0.7" in text


def test_metrics_of_any_group_are_shown(tmp_path):
    events = {"anomaly": {"found_events": 3, "metrics": {"f1_0.5": {"value": 0.625, "low": 0.5, "high": 0.75}}}}
    run = make_run(tmp_path, "gig", ("A",), {"v": bump(100, 0.6, 40, 50)}, events=events)
    write_report(make_results(tmp_path, ("A",), [entry("v")], [], [run]), tmp_path / "report")
    text = Page(tmp_path / "report" / "index.html").text
    assert "Event F1 at overlap 0.5" in text
    assert "0.625 0.500 to 0.750" in text


def test_why_one_run_has_no_metrics_of_events_is_said_beside_those_of_another():
    events = {"anomaly": {"metrics": {"hit_at_least_once": {"value": 0.5, "low": 0.2, "high": 0.7}}}}
    (row,) = metric_rows([{"events": events}, {"events": {"reason": "no times"}}])
    assert (row.title, row.cells[0].value, row.cells[1].reason) == ("Anomalies found", 0.5, "no times")


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("figures/detection_map_0.3", "Detection mAP at overlap 0.3"),
        ("figures/class_ap/Road/Accident", "AP of Road/Accident"),
        ("events/anomaly/metrics/precision_0.1", "Event precision at overlap 0.1"),
        ("events/anomaly/metrics/miss_rate_at_10_per_hour", "Miss rate at 10 false alarms per hour"),
        ("events/class_mean/metrics/recall_0.5", "Mean over the classes: Event recall at overlap 0.5"),
        ("events/classes/Theft/metrics/hit_at_least_once", "Theft: Anomalies found"),
        ("figures/something_new", "Something new"),
    ],
)
def test_a_metric_has_a_title_in_words(key, title):
    group, *path = key.split("/") if "class_ap" not in key else ("figures", "class_ap", "Road/Accident")
    leaf: dict = {"value": 0.5}
    for name in reversed(path):
        leaf = {name: leaf}
    (row,) = metric_rows([{group: leaf}])
    assert row.title == title


def test_what_cannot_be_shown_is_said_once(hostile, tmp_path):
    said = []
    write_report(hostile, tmp_path / "report", Extras(all_pictures=True), say=said.append)
    assert len(said) == 1
    assert "no pictures of 6 video(s)" in said[0]


def test_pictures_are_of_the_frames_at_the_peaks_and_made_once(tmp_path, make_video):
    make_video("v.mp4", frames=100)
    run = make_run(tmp_path, "gig", ("A",), {"v": bump(100, 0.9, 40, 50)})
    results = make_results(tmp_path, ("A",), [entry("v", path="v.mp4")], [], [run])
    write_report(results, tmp_path / "report")
    picture = tmp_path / "report" / "pictures" / "v-40.jpg"
    with av.open(str(picture)) as container:
        image = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert image.mean() == pytest.approx(10 + 15 * (40 % 16), abs=4)  # as `make_video` paints frame 40
    made = picture.stat().st_mtime_ns
    write_report(results, tmp_path / "report", Extras(all_pictures=True))
    assert picture.stat().st_mtime_ns == made
    page = Page(tmp_path / "report" / "videos" / "v.html")
    assert [image["src"] for image in page.find("img")] == ["../pictures/v-40.jpg"]
    assert [video["src"] for video in page.find("video")] == ["../../v.mp4"]


def test_pictures_are_sought_by_their_times_and_else_decoded_from_the_start(tmp_path, make_video, monkeypatch):
    video = make_video("v.mp4", frames=100)
    passes = []

    def from_the_start(path, **options):
        passes.append(path)
        return decode.iter_raw_frames(path, **options)

    monkeypatch.setattr(pictures, "iter_raw_frames", from_the_start)
    times_s = np.arange(100) / 10
    write_pictures(tmp_path / "sought", "v", video, [40, 90], times_s)
    assert passes == []
    write_pictures(tmp_path / "other", "v", video, [40, 90], np.where(times_s > 5, times_s + 0.05, times_s))
    write_pictures(tmp_path / "unknown", "v", video, [40, 90])
    assert len(passes) == 2
    for name in ("v-40.jpg", "v-90.jpg"):
        assert len({(tmp_path / folder / name).read_bytes() for folder in ("sought", "other", "unknown")}) == 1


def test_one_image_of_a_folder_is_read_for_one_picture(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        PIL.Image.new("RGB", (40, 20), (100 * number, 0, 0)).save(folder / f"{number}.png")
    (folder / "1.png").write_bytes(b"no image, and none that is asked for")
    write_pictures(tmp_path / "made", "v", folder, [2, 7])
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["v-2.jpg"]
    assert PIL.Image.open(tmp_path / "made" / "v-2.jpg").getpixel((20, 10))[0] == pytest.approx(200, abs=5)


def test_pictures_that_take_too_long_are_left_out_and_made_on_request(tmp_path, make_video, monkeypatch):
    make_video("v.mp4", frames=100)
    run = make_run(tmp_path, "gig", ("A",), {"v": bump(100, 0.9, 40, 50)})
    results = make_results(tmp_path, ("A",), [entry("v", path="v.mp4")], [], [run])
    said: list[str] = []
    monkeypatch.setattr(report, "PICTURES_OF_VIDEO_S", -1.0)
    write_report(results, tmp_path / "report", say=said.append)
    assert len(said) == 1
    assert "v: 1 of 1 not made, since decoding up to its pictures takes more than" in said[0]
    assert "--all-pictures makes them" in said[0]
    write_report(results, tmp_path / "report", Extras(all_pictures=True), say=said.append)
    assert len(said) == 1
    assert (tmp_path / "report" / "pictures" / "v-40.jpg").exists()


def test_patience_is_for_a_video_and_for_all():
    patience = Patience(all_s=-1.0)
    with patience, pytest.raises(TooLong, match="in all"):
        patience.check()
    unending = Patience()
    with unending:
        unending.check()


def test_scores_of_runs_that_differ_in_length_are_an_error(tmp_path):
    from pipeline.errors import LengthMismatch

    runs = [make_run(tmp_path, f"r{n}", ("A",), {"v": bump(n, 0.9, 3, 5)}) for n in (100, 99)]
    with pytest.raises(LengthMismatch, match="v: expected 100 scores as of r100, got others of r99"):
        write_report(make_results(tmp_path, ("A",), [entry("v")], [], runs), tmp_path / "report")


def test_scores_that_end_before_the_video_are_shown_as_far_as_they_go(tmp_path):
    run = make_run(tmp_path, "gig", ("A",), {"v": bump(80, 0.9, 40, 50)})
    results = make_results(tmp_path, ("A",), [entry("v", "A")], [Interval("v", "A", 40, 95)], [run])
    write_report(replace(results, may_be_short=True), tmp_path / "report")
    assert "80 frames" in Page(tmp_path / "report" / "videos" / "v.html").text


def test_a_class_can_be_called_as_a_part_of_the_metrics_is():
    own = {"value": {"metrics": {"recall_0.5": {"value": 0.25}}}}
    (row,) = metric_rows([{"events": {"classes": own}}])
    assert (row.key, row.cells[0].value) == ("events/classes/value/metrics/recall_0.5", 0.25)


def test_a_video_that_browsers_do_not_play_gets_a_copy_with_its_times(tmp_path):
    times = [0, 1, 2, 9, 10]
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 720, "yuv420p"
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((720, 96, 3), 20 * time, np.uint8), format="rgb24")
            frame.pts = time
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    source = tmp_path / "v.mkv"
    assert not find_media(source).playable
    run = make_run(tmp_path, "gig", ("A",), {"v": bump(5, 0.9, 3, 5)})
    results = make_results(tmp_path, ("A",), [entry("v", frames=5, path="v.mkv")], [], [run])
    write_report(results, tmp_path / "report")
    page = Page(tmp_path / "report" / "videos" / "v.html")
    assert page.find("video") == []
    assert "browsers do not play mpeg4" in page.text
    write_report(results, tmp_path / "report", Extras(proxies=tmp_path / "kept"))
    proxy = tmp_path / "report" / "proxies" / "v.mp4"
    assert [video["src"] for video in Page(tmp_path / "report" / "videos" / "v.html").find("video")] == [
        "../proxies/v.mp4"
    ]
    assert find_media(proxy).playable
    with av.open(str(proxy)) as container:
        frames = list(container.decode(video=0))
    assert [round(frame.time * 10) for frame in frames] == times
    assert (frames[0].width, frames[0].height) == (48, 360)
    kept = tmp_path / "kept" / "v.mp4"
    made = kept.stat().st_mtime_ns
    write_report(results, tmp_path / "another", Extras(proxies=tmp_path / "kept"))
    assert kept.stat().st_mtime_ns == made
    assert (tmp_path / "another" / "proxies" / "v.mp4").is_file()
