"""A detector described for people: some lines for a terminal, and a model card in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline.config import Preprocess
from pipeline.stages.detector.detector import Detector
from pipeline.stages.detector.document import Document, Metric

__all__ = ["model_card", "summary_lines"]


def summary_lines(detector: Detector) -> list[str]:
    """What it is, in a few lines."""
    document = detector.document
    backbone, trained = document.backbone, document.trained_on
    held = "in the file" if backbone.packed else "not in the file"
    lines = [
        f"{document.name}: {document.head.settings.get('name')} head of run {document.run}, {document.stage} backbone",
        f"  seal          {detector.seal}",
        f"  backbone      {backbone.name}, {backbone.precision}, weights {backbone.weights_sha256} ({held})",
        f"  classes       {', '.join(detector.classes)}",
        f"  trained on    {trained.dataset}: {trained.training_videos} videos ({_counts(trained.videos)})",
        f"  packed by     gig-vad {document.code_version}",
    ]
    chosen = document.operating_point.chosen
    for name, rule in detector.rules.items():
        origin = "chosen on validation videos" if name in chosen else "of the configuration"
        lines.append(f"  events        {name}: from {rule.upper:.4g}, spreading down to {rule.lower:.4g} ({origin})")
    lines += [f"  {name:<13} {_value(metric)}" for name, metric in _headline(document)]
    lines += [f"  warning       {warning}" for warning in document.warnings]
    return lines


def model_card(detector: Detector) -> str:
    """The model card: intended use, how it works, training data, metrics, events, limits."""
    document = detector.document
    backbone, trained, sampling = document.backbone, document.trained_on, document.test_sampling
    span = (sampling.window_frames - 1) * sampling.interval_frames + 1
    parts = [
        f"# {document.name}\n",
        f"A detector of anomalies in video, for `gig score --detector`. Seal (SHA-256): `{detector.seal}`.\n",
        *([_list(f"**{warning}**" for warning in document.warnings)] if document.warnings else []),
        "## Intended use\n",
        "It ranks the frames of recorded video of a fixed camera by how anomalous they are, and names stretches for a "
        f"person to look at, of these classes: {', '.join(detector.classes)}. It decides nothing about persons, and no "
        "measure that affects anybody should follow from its scores alone.\n",
        "## The model\n",
        _table(
            ("", ""),
            [
                ("backbone", f"{backbone.name} ({document.stage}), weights `{backbone.weights_sha256}`"),
                ("weights in the file", "yes" if backbone.packed else "no: they are given with `--weights`"),
                ("precision", backbone.precision),
                ("head", f"{document.head.settings.get('name')}, run {document.run} of {document.experiment}"),
                ("picture", _picture(document.preprocess)),
                ("windows", f"{span} frames, one every {sampling.stride_frames} frames"),
                ("smoothing", f"{document.scoring.smooth_on}, sigma {document.scoring.smooth_sigma:g}"),
                ("packed by", f"gig-vad {document.code_version}"),
            ],
        ),
        "## Training data\n",
        f"{trained.training_videos} videos of {trained.dataset}, each with labels of the whole video; "
        f"{trained.left_out} more could not be read.\n",
        _table(("label", "videos"), [(name, str(count)) for name, count in trained.videos.items()]),
        _table(("digest of", ""), [(name, f"`{value}`") for name, value in trained.digests.items()]),
        "## Metrics\n",
        _metrics(document),
        "## Events\n",
        _events(detector),
        "## Limits\n",
        _list(_limits(document)),
    ]
    return "\n".join(parts)


def _metrics(document: Document) -> str:
    found = document.metrics
    if found is None:
        return "None were measured.\n"
    text = (
        f"On {found.videos} test videos, {found.anomalous_videos} of them anomalous, {found.frames} frames; intervals "
        f"of {found.level:.0%} over videos.\n\n"
    )
    metrics = found.figures | {f"events: {name}": metric for name, metric in found.events.items()}
    rows = [(name, _value(metric)) for name, metric in metrics.items() if metric.value is not None]
    more = len(metrics) - len(rows)
    rest = f"{more} more are not defined on these videos; `gig detector show --json` says why.\n" if more else ""
    return text + _table(("metric", "value [interval]"), rows) + rest


def _events(detector: Detector) -> str:
    point = detector.document.operating_point
    rows = [
        (
            name,
            f"{rule.upper:.4g}",
            f"{rule.lower:.4g}",
            f"{rule.merge_gap_s:g} s",
            f"{rule.min_length_s:g} s",
            "validation videos" if name in point.chosen else "configuration",
        )
        for name, rule in detector.rules.items()
    ]
    table = _table(("of", "upper", "lower", "merged gaps", "least length", "threshold from"), rows)
    return table + _list([f"{point.normal_hours:.3g} hours of normal validation footage.", *point.notes])


def _limits(document: Document) -> list[str]:
    limits = [
        "It was trained with labels of whole videos: where an anomaly begins and ends is learnt indirectly.",
        _seen(document.preprocess),
        "Scores are no probabilities. On cameras, views, times of day or kinds of anomaly that the training videos do "
        "not show, metrics and false alarms can be far from those above: measure them on footage of your own.",
        "A class that the list does not have can still raise the score of anomaly in general, or none.",
    ]
    metrics = document.metrics
    if metrics is None:
        return [*limits, "No metrics were measured."]
    return [*limits, f"The metrics rest on {metrics.videos} test videos; the intervals say how little that can be."]


def _picture(shape: Preprocess) -> str:
    if shape.size is None:
        return "centre crop at the backbone's own size"
    height, width = shape.size
    if shape.fit == "crop":
        return f"short side {shape.short_side}, centre crop {shape.crop}"
    how = "resized to" if shape.fit == "stretch" else "with its own aspect within"
    return f"the whole picture, {how} {width} x {height}"


def _seen(shape: Preprocess) -> str:
    """What part of the picture the detector sees, in a sentence."""
    if shape.size is None:
        return (
            "It sees a square from the middle of the picture, 7/8 of the shorter side; what happens outside leaves no "
            "trace."
        )
    height, width = shape.size
    if shape.fit == "crop":
        return (
            f"It sees a square from the middle of the picture, {shape.crop} of the {shape.short_side} pixels of the "
            "shorter side; what happens outside leaves no trace."
        )
    more = ", with its aspect changed where that is another" if shape.fit == "stretch" else ""
    return f"It sees the whole picture at {width} x {height} pixels{more}; what is too small at that size is lost."


def _headline(document: Document) -> list[tuple[str, Metric]]:
    figures = document.metrics.figures if document.metrics else {}
    return [(name, figures[name]) for name in ("frame_auc", "frame_ap", "mf1") if name in figures]


def _value(metric: Metric) -> str:
    if metric.value is None:
        return f"not defined ({metric.reason})" if metric.reason else "not defined"
    interval = f" [{metric.low:.4f}, {metric.high:.4f}]" if metric.low is not None and metric.high is not None else ""
    return f"{metric.value:.4f}{interval}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _list(lines: Iterable[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
