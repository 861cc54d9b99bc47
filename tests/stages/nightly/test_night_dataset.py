"""The dataset of all days, its records and its pages."""

from __future__ import annotations

import json
import os
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nights import FIRST, iso
from places import ROOT

from pipeline.errors import OutputError
from pipeline.stages.nightly.days import day_path


def test_an_empty_day_has_the_columns_of_the_others(nights):
    nights.run(0)
    nights.put("Cam 1/_a=b.mp4", "aaaa", 1)
    nights.put("_c.mp4", "cccc", 1)
    nights.run(1)
    for kind in ("scores", "events", "files"):
        paths = sorted((nights.out / kind).rglob("*.parquet"))
        assert {path.parent.name for path in paths} == {f"date={iso(0)}", f"date={iso(1)}"}
        schemas = [pq.read_schema(path) for path in paths]
        assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)
        assert not any(pa.types.is_null(column.type) for column in schemas[0])
    assert nights.names() == {iso(0): [], iso(1): ["Cam 1/_a=b.mp4", "_c.mp4"]}


def test_the_page_says_what_happened_and_leads_to_the_days_around(nights):
    nights.put("<b>a</b>.mp4".replace("/", ""), "aaaaaaaa")
    nights.put("bad.mp4", "bad")
    fresh = nights.put("fresh.mp4", "ffff")
    os.utime(fresh, (nights.now_s - 5,) * 2)
    nights.run(0)
    nights.run(nights.today)
    nights.run(2)
    page = (nights.out / "pages" / iso(0) / "index.html").read_text()
    assert "&lt;b&gt;a&lt;b&gt;.mp4" in page
    assert "<b>a" not in page
    assert "bad.mp4: no video" in page
    assert "It has learnt nothing." in page
    assert f'href="../{iso(2)}/index.html" rel="next"' in page
    middle = (nights.out / "pages" / iso(2) / "index.html").read_text()
    assert f'href="../{iso(0)}/index.html" rel="prev"' in middle
    assert f'href="../{iso(nights.today)}/index.html" rel="next"' in middle
    last = (nights.out / "pages" / iso(nights.today) / "index.html").read_text()
    assert "changed 5 s ago, less than 60 s: still being written?" in last
    assert f'<td class="left wide">{iso(0)} 12:00</td>' in page
    facts = json.loads((nights.out / "pages" / iso(0) / "page.json").read_text())["facts"]
    assert [moment["span"] for moment in facts["moments"]] == ["0:00.3 to 0:00.8"]
    assert facts["moments"][0]["classes"] == ["Fighting"]
    assert facts["moments"][0]["href"].startswith("file://")
    assert facts["moments"][0]["href"].endswith(".mp4#t=0.0")


BLOCKS = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "nightly.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.search(r"import (\w+)", block)[1])
def test_pandas_dask_and_duckdb_read_all_days_as_one(nights, monkeypatch, block):
    pytest.importorskip(re.search(r"import ([\w.]+)", block)[1])
    nights.put("Cam 1/_a=b.mp4", "aaaaaaaa", 0)
    nights.put("bad.mp4", "bad", 0)
    nights.put("b.mp4", "bbbb", 1)
    for day in range(3):
        nights.run(day, folder=nights.folder / "nightly" / "night")  # the last one is empty
    monkeypatch.chdir(nights.folder)
    names: dict = {}
    exec(compile(block.replace("2026-11-01", iso(0)), "block", "exec"), names)
    if "per_day" in names:  # pandas
        scores = names["scores"]
        assert scores.groupby("date", observed=False).size().to_dict() == {iso(0): 8, iso(1): 4, iso(2): 0}
        assert names["per_day"].to_dict() == {iso(0): 1, iso(1): 1}
        files = names["pd"].read_parquet("nightly/night/files")
        assert {str(files[name].dtype) for name in ("bytes", "frames", "events")} == {"int64"}
    else:
        found = names["highest"] if isinstance(names["highest"], list) else names["highest"].reset_index().to_numpy()
        rows = sorted((str(date), name, round(float(score), 3)) for date, name, score in found)
        assert rows == [(iso(0), "Cam 1/_a=b.mp4", 1.0), (iso(1), "b.mp4", 1.0)]


def test_a_record_that_is_none_is_refused(nights):
    nights.run()
    day_path(nights.out, FIRST).write_text("{}")
    with pytest.raises(OutputError, match="not the record of a day"):
        nights.run()
