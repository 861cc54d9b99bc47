"""Errors of the pipeline. Each is also a builtin error that a caller would expect to catch."""

__all__ = [
    "ClusterError",
    "ConfigError",
    "DecodeError",
    "DecoderKilled",
    "DegenerateTruth",
    "DetectorError",
    "FeatureMismatch",
    "LengthMismatch",
    "ManifestError",
    "OutputError",
    "PipelineError",
    "QuarantineExceeded",
    "StorageError",
    "WeightsError",
]


class PipelineError(Exception):
    """Base class. Messages say what went wrong, where, what was expected and what was found."""


class ConfigError(PipelineError, ValueError):
    """A configuration file that cannot be read or has an unknown key or a value out of range."""


class ClusterError(PipelineError, ConnectionError):
    """A cluster that cannot be reached, is lost, or has no worker that can do the work."""


class ManifestError(PipelineError, ValueError):
    """Problems of a dataset's annotation files; the message lists all of them, by file and row."""


class DecodeError(PipelineError, OSError):
    """A video that cannot be decoded.

    Attributes:
        frame: number of frames that were decoded, if known.
        library: the message of the decoding library, if it was the library that failed.
    """

    def __init__(self, message: str, frame: int | None = None, library: str | None = None) -> None:
        super().__init__(message)
        self.frame, self.library = frame, library


class DecoderKilled(DecodeError):
    """A decoder that was killed from outside, for example for lack of memory; the video itself may be intact."""


class WeightsError(PipelineError, ValueError):
    """Weights that are missing, have another shape, or fail their check."""


class DetectorError(PipelineError, ValueError):
    """A detector file that cannot be used: damaged, cut, of a newer version, or not one at all."""


class FeatureMismatch(PipelineError, ValueError):
    """Features that were made in another way than those that a head was trained on."""


class LengthMismatch(PipelineError, ValueError):
    """Sequences of different lengths that should be equal: scores and frames of a video, segments of two bags."""


class DegenerateTruth(PipelineError, ValueError):
    """Ground truth on which a metric is not defined, such as frames that are all normal."""


class StorageError(PipelineError, RuntimeError):
    """A storage of videos that cannot be reached, does not answer, or whose files change while they are read.

    No OSError, so that nobody takes it for a file that is damaged or not there: it ends the run.
    """


class OutputError(PipelineError, OSError):
    """An output that cannot be written."""


class QuarantineExceeded(PipelineError, RuntimeError):
    """More videos in quarantine than the configuration accepts."""
