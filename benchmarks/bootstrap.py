"""How long does the bootstrap over videos take, compared with resampling by concatenation with scikit-learn?

At a small size both ways are timed on the same draws and must agree. At the size of UCF-Crime's test split (290 videos,
1.1 million frames) only ours is timed. Scores are random and all different, which is the worst case: real ones are
smooth. The small size computes ROC AUC and both average precisions, the large one all metrics of the anomaly score.

    python benchmarks/bootstrap.py
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import machine, write_result
from pipeline.metrics import FrameMetrics, draw_weights, estimate


def make(videos: int, frames: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Random scores of `frames` frames in total; half of the videos have an anomaly over 15 % of their length."""
    generator = np.random.default_rng(0)
    lengths = generator.multinomial(frames - videos, generator.dirichlet(np.ones(videos))) + 1
    scores, labels = {}, {}
    for number, length in enumerate(lengths):
        truth = np.zeros(length, dtype=bool)
        if number % 2:
            truth[length // 3 : length // 3 + max(1, int(0.15 * length))] = True
        labels[f"v{number:03d}"] = truth
        scores[f"v{number:03d}"] = 0.2 * truth + 0.8 * generator.random(length)
    return scores, labels


def by_concatenation(scores: dict, labels: dict, weights: np.ndarray) -> np.ndarray:
    """ROC AUC and both average precisions of every resample, (R, 3), computed as they usually are."""
    names, rows = sorted(scores), []
    for column in weights.T:
        drawn = [name for name, count in zip(names, column, strict=True) for _ in range(int(count))]
        truth, values = (np.concatenate([table[name] for name in drawn]) for table in (labels, scores))
        precision, recall, _ = precision_recall_curve(truth, values)
        rows.append((roc_auc_score(truth, values), average_precision_score(truth, values), auc(recall, precision)))
    return np.array(rows)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/bootstrap.json"))
    options = parser.parse_args()

    scores, labels = make(100, 100_000)
    weights = draw_weights(100, 100, seed=0)
    start = time.monotonic()
    expected = by_concatenation(scores, labels, weights)
    concatenation_s = time.monotonic() - start
    start = time.monotonic()
    areas = FrameMetrics(scores, labels).frames.areas(weights)
    ours_s = time.monotonic() - start
    difference = float(np.abs(np.stack([areas.auc, areas.stepwise, areas.trapezoidal], axis=1) - expected).max())
    assert difference < 1e-9, difference

    scores, labels = make(290, 1_100_000)
    start = time.monotonic()
    metrics = FrameMetrics(scores, labels)
    estimate([metrics], 290, resamples=1000, seed=0, needs=metrics.NEEDS)
    result = {
        "machine": machine(),
        "small": {
            "videos": 100,
            "frames": 100_000,
            "resamples": 100,
            "concatenation_s": round(concatenation_s, 2),
            "weights_s": round(ours_s, 2),
            "ratio": round(concatenation_s / ours_s, 1),
            "largest_difference": difference,
        },
        "large": {
            "videos": 290,
            "frames": 1_100_000,
            "resamples": 1000,
            "general_s": round(time.monotonic() - start, 1),
        },
    }
    write_result(options.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
