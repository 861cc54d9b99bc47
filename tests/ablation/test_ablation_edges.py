"""The metrics of an ablation where every test video gives the same figure."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.ablation.judging import PLACES, _metrics, _Seed
from pipeline.config import Evaluation
from pipeline.metrics import LocalisationMetrics
from pipeline.metrics.bootstrap import ALIKE
from pipeline.metrics.spatial import SeenWindows


def test_a_mean_over_seeds_that_all_hit_everything_is_not_surer_than_its_videos():
    window = SeenWindows(*(np.array([value]) for value in (1.0, 0.25, 0.5, 0.1)))
    places = LocalisationMetrics(dict.fromkeys("abc", window))
    seeds = [_Seed(3, {"localisation": places}, places.needs, places.edges)] * 2
    found = _metrics(seeds, PLACES, Evaluation(resamples=50))
    assert found["hit_rate"]["values"] == [1, 1]
    assert (found["hit_rate"]["low"], found["hit_rate"]["high"]) == (pytest.approx(0.2924, abs=1e-4), 1)
    assert (found["relation_energy"]["low"], found["relation_energy"]["reason"]) == (None, ALIKE)
