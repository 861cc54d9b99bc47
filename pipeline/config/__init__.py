"""The configuration: strict, frozen sections read from YAML, with their defaults, descriptions and digests."""

from pipeline.config.datasets import (
    CitySceneDataset,
    CsvDataset,
    GeneratedDataset,
    ShanghaiTechDataset,
    SyntheticCityDataset,
    SyntheticDataset,
    UcfCrimeDataset,
    XdViolenceDataset,
)
from pipeline.config.events import Events
from pipeline.config.experiment import Experiment, field_table, load_experiment, parse_experiment
from pipeline.config.features import Decoding, Preprocess, TestSampling, TrainSampling
from pipeline.config.finetune import Finetune
from pipeline.config.head_base import Head
from pipeline.config.runs import Evaluation, Run, Scoring, Training
from pipeline.config.section import digest, to_yaml

__all__ = [
    "CitySceneDataset",
    "CsvDataset",
    "Decoding",
    "Evaluation",
    "Events",
    "Experiment",
    "Finetune",
    "GeneratedDataset",
    "Head",
    "Preprocess",
    "Run",
    "Scoring",
    "ShanghaiTechDataset",
    "SyntheticCityDataset",
    "SyntheticDataset",
    "TestSampling",
    "TrainSampling",
    "Training",
    "UcfCrimeDataset",
    "XdViolenceDataset",
    "digest",
    "field_table",
    "load_experiment",
    "parse_experiment",
    "to_yaml",
]
