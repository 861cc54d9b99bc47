"""Compares a summary with the metrics that the configuration expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.expected import Expected, ExpectedMetric
from pipeline.stages.evaluation.text import aligned, said

__all__ = ["Comparison", "compare_metrics", "comparisons_text"]

HEADER = ("run", "metric", "value", "expected", "")
BASES = {"measured": "measured with this project", "published": "published, not measured here"}


@dataclass(frozen=True)
class Comparison:
    """One metric of one line of the summary beside what is expected.

    Attributes:
        run, stage: of the line; the run of the configuration where the summary has no such line.
        metric: column of the summary.
        value: None where it is not defined, or there is no such line.
        low, high: least and largest expected value.
        basis: measured or published, see `ExpectedMetric`.
        source: where the expected values are from.
        as_expected: whether the value lies in the range; for published values also whether its interval reaches it.
    """

    run: str
    stage: str
    metric: str
    value: float | None
    low: float
    high: float
    basis: str
    source: str
    as_expected: bool


def compare_metrics(expected: Expected, rows: Sequence[Mapping[str, str | float | None]]) -> list[Comparison]:
    """Compare every expected metric with the lines of a summary that it is about.

    Args:
        expected: what the configuration expects.
        rows: `runs` of summary.json.
    """
    found: list[Comparison] = []
    for one in expected.metrics:
        lines = [row for row in rows if one.run in (None, row["run"]) and row["stage"] == one.stage]
        found += [_compared(one, row) for row in lines]
        if not lines and one.run is not None:
            found.append(_compared(one, {"run": one.run, "stage": one.stage}))
    return found


def comparisons_text(comparisons: Sequence[Comparison]) -> list[str]:
    """A table of the comparisons, where the expected values are from, and a warning if one is not as expected."""
    if not comparisons:
        return []
    rows = [(_name(c), c.metric, _value(c), _range(c), "" if c.as_expected else "differs") for c in comparisons]
    lines = ["beside what the configuration expects:", "", *aligned([HEADER, *rows]), ""]
    for basis, source in dict.fromkeys((c.basis, c.source) for c in comparisons):
        lines += said(f"{BASES[basis]}: {source}")
    if differing := sum(not comparison.as_expected for comparison in comparisons):
        lines += said(
            f"warning: {differing} of {len(comparisons)} metrics are not as expected: `gig config check` compares the "
            "data set, `gig selfcheck` this machine"
        )
    return lines


def _name(comparison: Comparison) -> str:
    return comparison.run if comparison.stage == "frozen" else f"{comparison.run} ({comparison.stage})"


def _value(comparison: Comparison) -> str:
    return "-" if comparison.value is None else f"{comparison.value:.4f}"


def _range(comparison: Comparison) -> str:
    low, high = f"{comparison.low:g}", f"{comparison.high:g}"
    return low if low == high else f"{low} to {high}"


def _compared(expected: ExpectedMetric, row: Mapping[str, str | float | None]) -> Comparison:
    value = _number(row, expected.metric)
    reach = [] if value is None else [value]
    if expected.basis == "published":
        ends = (_number(row, f"{expected.metric}_{end}") for end in ("low", "high"))
        reach += [end for end in ends if end is not None]
    facts = expected.model_dump(include={"metric", "low", "high", "basis", "source"})
    fits = value is not None and min(reach) <= expected.high and max(reach) >= expected.low
    return Comparison(run=str(row["run"]), stage=str(row["stage"]), value=value, as_expected=fits, **facts)


def _number(row: Mapping[str, str | float | None], column: str) -> float | None:
    value = row.get(column)
    return float(value) if isinstance(value, int | float) else None
