"""The size of the picture and of its maps, of an experiment."""

from __future__ import annotations

import pytest

from pipeline.config import parse_experiment
from pipeline.stages.common.picture import map_size, picture_size


@pytest.mark.parametrize(
    ("settings", "picture", "cells"),
    [
        ({}, (224, 224), (7, 7)),
        ({"short_side": 104, "crop": 96}, (96, 96), (3, 3)),
        ({"fit": "stretch", "height": 224, "width": 384}, (224, 384), (7, 12)),
        ({"fit": "letterbox", "height": 320, "width": 192}, (320, 192), (10, 6)),
    ],
)
def test_picture_and_map_of_an_experiment(nano, settings, picture, cells):
    nano["preprocess"] = settings
    experiment = parse_experiment(nano)
    assert picture_size(experiment) == picture
    assert map_size(experiment) == cells
