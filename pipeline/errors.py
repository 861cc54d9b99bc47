"""Errors of the pipeline. Each is also the builtin that a caller would expect to catch."""

__all__ = [
    "ConfigError",
    "DecodeError",
    "DegenerateTruth",
    "LengthMismatch",
    "ManifestError",
    "PipelineError",
    "WeightsError",
]


class PipelineError(Exception):
    """Base class: what went wrong, where, what was expected and what was got."""


class ConfigError(PipelineError, ValueError):
    """A configuration file that cannot be read, or holds an unknown key or a value out of range."""


class ManifestError(PipelineError, ValueError):
    """Problems of a dataset's annotation files; the message lists all of them, by file and row."""


class DecodeError(PipelineError, OSError):
    """A video that cannot be decoded."""


class WeightsError(PipelineError, ValueError):
    """Weights that are missing, of another shape, or not what they claim to be."""


class LengthMismatch(PipelineError, ValueError):
    """Two per-frame sequences of one video that differ in length."""


class DegenerateTruth(PipelineError, ValueError):
    """Truth on which a figure is not defined, such as frames of one kind only."""
