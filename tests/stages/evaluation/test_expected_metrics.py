"""A summary beside the metrics that a configuration expects."""

from __future__ import annotations

import json

import pytest

from pipeline.config.expected import Expected
from pipeline.stages.evaluation.expected import compare_metrics
from pipeline.stages.evaluation.summary import COLUMNS, ESTIMATES, summary_table

ROW = {"run": "gig", "stage": "frozen", "auc": 0.75, "auc_low": 0.6, "auc_high": 0.85, "mf1": None}


def expected(**changes) -> Expected:
    one = {"metric": "auc", "low": 0.7, "high": 0.8, "basis": "measured", "source": "the command"} | changes
    return Expected.model_validate({"metrics": [one]})


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"low": 0.75, "high": 0.75}, True),
        ({"low": 0.76}, False),
        ({"high": 0.74}, False),
        ({"low": 0.8, "high": 0.9, "basis": "published"}, True),
        ({"low": 0.86, "high": 0.9, "basis": "published"}, False),
        ({"low": 0.5, "high": 0.59, "basis": "published"}, False),
        ({"metric": "mf1"}, False),
        ({"metric": "hit_rate"}, False),
    ],
)
def test_a_value_lies_in_the_range_or_does_not(changes, fits):
    (comparison,) = compare_metrics(expected(**changes), [ROW])
    assert comparison.as_expected is fits


def test_a_range_is_of_every_run_or_of_one_of_one_stage():
    rows = [ROW, ROW | {"run": "other"}, ROW | {"stage": "finetuned"}]
    assert [c.run for c in compare_metrics(expected(), rows)] == ["gig", "other"]
    assert [c.run for c in compare_metrics(expected(run="other"), rows)] == ["other"]
    assert [c.stage for c in compare_metrics(expected(stage="finetuned"), rows)] == ["finetuned"]


def test_a_run_that_the_summary_lacks_is_said():
    (comparison,) = compare_metrics(expected(run="gone"), [ROW])
    assert not comparison.as_expected
    assert (comparison.run, comparison.value) == ("gone", None)


def test_the_summary_says_what_is_not_as_expected(tmp_path):
    row = dict.fromkeys([*COLUMNS, *ESTIMATES, *(f"{name}_{end}" for name in ESTIMATES for end in ("low", "high"))])
    row |= ROW | {"head": "gig", "backbone": "tpn_tiny", "videos": 3, "frames": 60}
    summary = {"experiment": "x", "runs": [row], "quarantined": []}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert "expected" not in summary_table(tmp_path, Expected())
    within, without = summary_table(tmp_path, expected()), summary_table(tmp_path, expected(low=0.76))
    assert "auc  0.7500  0.7 to 0.8\n" in within
    assert "measured with this project: the command" in within
    assert "warning" not in within
    assert "auc  0.7500  0.76 to 0.8  differs\n" in without
    assert "warning: 1 of 1 metrics are not as expected" in without
    published = summary_table(tmp_path, expected(basis="published"))
    assert "published, not measured here: the command" in published
