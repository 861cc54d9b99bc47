"""The sections of an experiment on where it runs and where its results lie; they are part of no digest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, field_validator

from pipeline.config.mirrors import check_url, mirror_folder, output_place
from pipeline.config.section import Section, UserPath, UserText

__all__ = ["Machine", "Paths"]


class Machine(Section):
    """Hardware and failure tolerance; not part of any digest, because none of it changes a result beyond rounding."""

    device: str = Field(
        default="auto",
        description="auto: every CUDA device that is visible, or the CPU where there is none; cuda: every CUDA device; "
        "cuda:N: this one; cpu. No two processes use the same GPU: the second waits for it.",
    )
    extract_processes: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Most processes of an extraction, each with its own GPU, or sharing the CPU; 0: one per GPU that "
        "is free, or one on the CPU.",
    )
    batch_clips: int = Field(
        default=0, ge=0, description="Clips that the backbone processes at once; 0: 8 on a CPU, 32 on a GPU."
    )
    compile: bool = Field(
        default=False,
        description="Compile the backbone (torch.compile); slow start, no faster on an H100 (docs/gpu.md). Needs g++.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads of torch in each process; 0: torch's default, or the share of each process.",
    )
    shards: int = Field(
        default=1, ge=1, description="Extraction tasks per split; luigi --workers runs them in parallel."
    )
    decode_workers: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Decoder processes of an extraction, each with one video at a time, divided among its processes; "
        "0: one per core, at most 16 for each of them.",
    )
    video_copies: UserPath | None = Field(
        default=None,
        description="Where videos of a storage are copied whole before they are read; null reads them in pieces, "
        "which needs no space.",
    )
    video_copies_gb: float = Field(
        default=50.0,
        gt=0,
        description="GB of such copies that are kept, those used last; a larger one is not copied.",
    )
    decode_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="Seconds without a response after which a decoder is stopped and its video goes to quarantine.",
    )
    max_quarantined: int = Field(
        default=0,
        ge=0,
        description="Unreadable videos that are accepted; with more, EvaluateAll finishes, lists them and fails.",
    )
    checkpoint_epochs: int = Field(default=10, ge=1, description="Epochs from one training checkpoint to the next.")
    checkpoint_steps: int = Field(
        default=200, ge=1, description="Steps from one checkpoint of a fine-tuning to the next."
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="Checkpoints of a fine-tuning that are kept.")
    finetune_bags: int = Field(
        default=1,
        ge=1,
        description="Bags in memory at once in a fine-tuning; gradients are summed over finetune.batch_bags.",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="Fine-tuning computes activations twice instead of keeping them: less memory, more time.",
    )
    processes: int = Field(
        default=1, ge=1, description="Processes of a fine-tuning, each with its own GPU, or sharing the CPU."
    )
    engine: Literal["local", "dask"] = Field(
        default="local",
        description="Who does the work on single videos: this machine, or a dask.distributed cluster "
        "(docs/cluster.md); needs gig-vad[cluster].",
    )
    scheduler: str | None = Field(
        default=None,
        pattern=r"^(tcp|tls|ws|wss|ucx)://.+$",
        description="Address of the dask scheduler, such as tcp://head:8786; null with engine: dask starts a cluster "
        "on this machine for as long as a step takes.",
    )
    cluster_wait_s: float = Field(
        default=60.0, gt=0, description="Seconds without any usable dask worker after which a step ends with an error."
    )
    cluster_resource: str = Field(
        default="video",
        min_length=1,
        description="Resource of dask workers, one for each video that a worker has at once; others get no work.",
    )
    cluster_workers: int = Field(
        default=0,
        ge=0,
        description="Workers of a dask cluster that is started on this machine; 0: one per GPU, or one on the CPU.",
    )


class Paths(Section):
    """Where results and features are stored; not part of any digest."""

    output: Annotated[Path | str, PlainValidator(output_place)] = Field(
        default=Path("var"),
        description="Results: <output>/<experiment>/. A folder or an fsspec URL, such as s3://bucket/prefix.",
    )
    cache: UserText = Field(default="var/cache", description="Feature cache: a folder or an fsspec URL.")
    scratch: UserPath = Field(
        default=Path("var/mirror"),
        description="Where this machine works on results whose output is a URL: a folder for each URL, with what this "
        "machine made or read.",
    )

    @property
    def folder(self) -> Path:
        """The folder of this machine in which results are made and read: the output, or the mirror of its URL."""
        return self.output if isinstance(self.output, Path) else mirror_folder(self.scratch, self.output)

    @field_validator("cache")
    @classmethod
    def _whole_url(cls, value: str) -> str:
        check_url(value)
        return value
