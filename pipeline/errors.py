"""Errors of the pipeline. Each is also the builtin that a caller would expect to catch."""

__all__ = [
    "ConfigError",
    "DecodeError",
    "DegenerateTruth",
    "FeatureMismatch",
    "LengthMismatch",
    "ManifestError",
    "OutputError",
    "PipelineError",
    "QuarantineExceeded",
    "WeightsError",
]


class PipelineError(Exception):
    """Base class: what went wrong, where, what was expected and what was got."""


class ConfigError(PipelineError, ValueError):
    """A configuration file that cannot be read, or holds an unknown key or a value out of range."""


class ManifestError(PipelineError, ValueError):
    """Problems of a dataset's annotation files; the message lists all of them, by file and row."""


class DecodeError(PipelineError, OSError):
    """A video that cannot be decoded.

    Attributes:
        frame: the number of frames that were decoded, where that is known.
        library: the decoding library's own words, where it was the library that failed.
    """

    def __init__(self, message: str, frame: int | None = None, library: str | None = None) -> None:
        super().__init__(message)
        self.frame, self.library = frame, library


class WeightsError(PipelineError, ValueError):
    """Weights that are missing, of another shape, or not what they claim to be."""


class FeatureMismatch(PipelineError, ValueError):
    """A head, and features made in another way than those that it was trained on."""


class LengthMismatch(PipelineError, ValueError):
    """Sequences that should be of one length and are not: scores and frames of a video, segments of two bags."""


class DegenerateTruth(PipelineError, ValueError):
    """Truth on which a figure is not defined, such as frames of one kind only."""


class OutputError(PipelineError, OSError):
    """An output that cannot be written."""


class QuarantineExceeded(PipelineError, RuntimeError):
    """More videos in quarantine than the configuration accepts."""
