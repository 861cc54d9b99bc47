"""The pages in a real browser: needs the package playwright (the extra `browser`) and a chromium, as Debian has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up import bump, entry, make_results, make_run

from pipeline.data.manifest import Interval
from pipeline.stages.report.from_tables import Source, TableOptions, write_tables_report
from pipeline.stages.report.report import write_report

pytestmark = pytest.mark.slow
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
CLASSES = ("__proto__", "</script><script>alert(3)</script>")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with playwright_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def report(tmp_path, make_video) -> Path:
    """150 videos of 10 s; `v007` has a file; gig finds what is annotated in odd ones, the other run raises all."""
    names = [f"v{number:03d}" for number in range(149)] + [HOSTILE]
    make_video("v007.mp4", frames=100)
    videos = [entry(name, *([CLASSES[number % 4 // 2]] if number % 2 else [])) for number, name in enumerate(names)]
    intervals = [Interval(video.video_id, video.labels[0], 40, 60) for video in videos if video.labels]
    good = {v.video_id: bump(100, 0.9 - n / 1000 if v.labels else 0.1, 42, 58) for n, v in enumerate(videos)}
    runs = [
        make_run(tmp_path, "gig", CLASSES, good),
        make_run(tmp_path, "other", CLASSES, {name: bump(100, 0.95, 0, 100) for name in names}),
    ]
    quarantined = [(f"broken_{'x' * 150}", f"{HOSTILE} is no video")]
    write_report(make_results(tmp_path, CLASSES, videos, intervals, runs, quarantined), tmp_path / "report")
    return tmp_path / "report"


@pytest.fixture
def found(tmp_path) -> Path:
    """Scores of three videos of 100 frames without ground truth, and without anything that says times."""
    heights = {"loud": 0.9, "quiet": 0.3, HOSTILE.replace("/", ""): 0.6}
    names = ",".join(['"' + name.replace('"', '""') + '"' for name in ("video_id", "score", *CLASSES)])
    lines = [names]
    for name, height in heights.items():
        for score in bump(100, height, 40, 50):
            lines.append(",".join(['"' + name.replace('"', '""') + '"', str(score), str(score), str(score / 3)]))
    (tmp_path / "scores.csv").write_text("\n".join(lines), encoding="utf-8")
    source = Source(f"system {'y' * 60}", tmp_path / "scores.csv")
    write_tables_report([source], None, tmp_path / "found", TableOptions(classes=CLASSES))
    return tmp_path / "found"


@pytest.fixture
def tab(browser) -> Iterator:
    """A new tab; whatever a page says to the console, opens as a dialog or asks of a network fails the test."""
    context = browser.new_context()
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    yield page
    context.close()
    assert said == []


def visit(tab, path: Path) -> None:
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")


def names(tab) -> list[str]:
    return tab.locator("#rows tr td:first-child a").all_inner_texts()


def test_the_table_is_sorted_filtered_and_shown_in_parts(tab, report):
    visit(tab, report / "index.html")
    assert len(names(tab)) == 100
    assert "100 of 150 videos shown" in tab.inner_text("#count")
    tab.click("#more")
    assert len(names(tab)) == 150
    name = tab.locator("#videos-table th[data-column=name]")
    name.get_by_role("button").click()
    assert name.get_attribute("aria-sort") == "ascending"
    assert names(tab)[:2] == [HOSTILE, "v000"]
    tab.keyboard.press("Enter")  # the button has the focus
    assert name.get_attribute("aria-sort") == "descending"
    assert names(tab)[0] == "v148"
    tab.fill("#search", "V00")
    assert names(tab) == [f"v00{number}" for number in range(9, -1, -1)]
    tab.select_option("#kind", "normal")
    assert names(tab) == ["v008", "v006", "v004", "v002", "v000"]
    tab.select_option("#kind", "all")
    tab.select_option("#class", label="__proto__")
    assert names(tab) == ["v009", "v005", "v001"]
    tab.fill("#search", "nothing has this name")
    assert "No video fits" in tab.inner_text("#count")


def test_another_run_changes_numbers_and_moments_and_all_can_be_side_by_side(tab, report):
    visit(tab, report / "index.html")
    assert tab.locator("text=No event outside what is annotated.").first.is_visible()
    tab.fill("#search", "v00")
    assert tab.locator("#rows .strip").count() == 10
    tab.select_option("#run", label="other")
    assert not tab.locator("text=No event outside what is annotated.").first.is_visible()
    assert tab.locator("#rows tr", has_text="v000").locator("td").nth(7).inner_text() == "1"
    tab.check("#together")
    assert tab.locator("#rows .strip").count() == 20
    first = tab.locator("#rows .strip svg").first
    first.wait_for()
    assert "by gig" in first.get_attribute("aria-label")


def test_timelines_are_drawn_when_they_are_seen(tab, report):
    visit(tab, report / "index.html")
    tab.click("#everything")
    assert tab.locator("#rows .strip").count() == 150
    assert tab.locator("#rows .strip svg").count() < 150
    tab.locator("#rows tr").last.scroll_into_view_if_needed()
    tab.locator("#rows tr").last.locator("svg").wait_for()


def test_the_video_follows_pointer_keys_and_rows(tab, report):
    visit(tab, report / "videos" / "v007.html")
    tab.wait_for_function("document.querySelector('video').readyState > 0")

    def at(seconds: float) -> None:
        tab.wait_for_function(f"Math.abs(document.querySelector('video').currentTime - {seconds}) < 0.06")
        assert abs(float(tab.get_attribute("#timeline", "aria-valuenow")) - seconds) < 0.11

    line = tab.locator("#timeline")
    line.scroll_into_view_if_needed()
    box = line.bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + 40)
    at(5.0)
    tab.keyboard.press("Home")
    at(0.0)
    tab.keyboard.press("ArrowRight")
    at(1.0)
    tab.keyboard.press("PageDown")
    at(4.0)
    tab.keyboard.press("n")
    at(4.2)
    tab.keyboard.press("p")
    at(4.0)
    tab.locator("button[data-time]", has_text="0:04.2").first.click()
    at(4.2)
    assert "gig 0.89" in tab.inner_text("#read-out")
    visit(tab, report / "index.html")
    tab.goto(f"{(report / 'videos' / 'v007.html').as_uri()}#t=5.50")
    at(5.5)


def test_a_video_whose_name_is_markup_has_its_page(tab, report):
    visit(tab, report / "index.html")
    tab.fill("#search", "onerror")
    tab.locator("#rows a").click()
    tab.wait_for_selector("html[data-ready]")
    assert tab.inner_text("h1") == HOSTILE
    assert tab.locator("#timeline .strip svg").count() > 1


def test_without_ground_truth_the_table_is_of_events(tab, found):
    visit(tab, found / "index.html")
    assert names(tab)[0] == "loud"
    rows = tab.locator("#rows tr")
    assert [cell.inner_text().strip() for cell in rows.nth(0).locator("td").all()[1:]] == [
        "__proto__",
        "100 frames",
        "0.90",
        "1",
        "10 frames",
    ]
    tab.select_option("#kind", "quiet")
    assert names(tab) == ["quiet"]
    tab.select_option("#kind", "all")
    tab.select_option("#class", label="__proto__")
    assert names(tab)[0] == "loud"
    assert "quiet" not in names(tab)
    tab.locator("#rows a").first.click()
    tab.wait_for_selector("html[data-ready]")
    tab.keyboard.press("n")
    assert tab.inner_text("#read-out").startswith("frame 40 of 100 frames:")
    assert "Nothing annotated" not in tab.locator("#timeline svg").first.get_attribute("aria-label")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_and_axe_finds_nothing_serious(tab, report, found, scheme, width):
    """The second only where the environment names axe-core's axe.min.js (AXE_CORE); nothing is downloaded."""
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 800})
    pages = [
        report / "index.html",
        report / "videos" / "v007.html",
        found / "index.html",
        found / "videos" / "loud.html",
    ]
    for page in pages:
        visit(tab, page)
        if page.name == "index.html":
            tab.locator("#together").evaluate("(box) => box.click()")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        if axe := os.environ.get("AXE_CORE"):
            protocol = tab.context.new_cdp_session(tab)  # the page's own policy would refuse the script
            protocol.send("Runtime.evaluate", {"expression": Path(axe).read_text(encoding="utf-8")})
            found = tab.evaluate("axe.run().then((result) => result.violations.map((one) => [one.impact, one.id]))")
            assert [one for one in found if one[0] in ("serious", "critical")] == []
