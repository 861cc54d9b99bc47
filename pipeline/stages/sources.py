"""What extraction starts from: decoders, files already in the cache, imported features, and how much damage is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache import FeatureStore, NotCached
from pipeline.config import Decoding, Experiment
from pipeline.data.damage import Damage
from pipeline.data.decode import VideoHeader, content_sha256
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.data.opening import MEGAPIXEL
from pipeline.data.workers import DecodeWorkers
from pipeline.errors import DecodeError

__all__ = ["ExtractReport", "check_damage", "experiment_workers", "find_imported", "is_current", "max_pixels"]


@dataclass(frozen=True)
class ExtractReport:
    """What one call did: ids written, ids found complete in the cache, and ids in quarantine, before or since."""

    extracted: tuple[str, ...]
    cached: tuple[str, ...]
    quarantined: tuple[str, ...]


def experiment_workers(experiment: Experiment, decoder: str = "pipeline.data.decode") -> DecodeWorkers:
    """Decoder processes as the experiment's machine and preprocessing sections have them."""
    machine, shape = experiment.machine, experiment.preprocess
    return DecodeWorkers(
        machine.decode_workers,
        machine.decode_timeout_s,
        short_side=shape.short_side,
        crop=shape.crop,
        max_pixels=max_pixels(experiment.decoding),
        decoder=decoder,
    )


def max_pixels(decoding: Decoding) -> int:
    """The largest picture that is decoded, pixels."""
    return int(decoding.max_megapixels * MEGAPIXEL)


def is_current(store: FeatureStore, namespace: str, manifest: Manifest, entry: VideoEntry, weights_sha256: str) -> bool:
    """Whether the cached features were made of the file as it is now, and with these weights.

    A namespace names the recipe of fine-tuned weights; trained again elsewhere, they can be others.
    """
    provenance = store.record(namespace, entry.video_id).provenance
    if provenance["backbone"]["weights_sha256"] != weights_sha256:
        return False
    source = provenance["source"]
    path = manifest.video_path(entry.video_id)
    if path.is_file():
        facts = path.stat()
        if (source["bytes"], source["mtime_ns"]) == (facts.st_size, facts.st_mtime_ns):
            return True
    return path.exists() and content_sha256(path) == source["sha256"]


def find_imported(namespace: str, videos: Sequence[VideoEntry], present: set[str], quarantined: Sequence[str]) -> ExtractReport:
    """The report of a split whose features were imported. Raises NotCached naming the videos they lack."""
    ids = [video.video_id for video in videos if video.video_id not in quarantined]
    if missing := [video_id for video_id in ids if video_id not in present]:
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise NotCached(f"{namespace}: expected imported features of {len(ids)} videos, {len(missing)} are not there: {names}")
    return ExtractReport((), tuple(ids), tuple(sorted(quarantined)))


def check_damage(header: VideoHeader, decoded: int, damage: Damage, policy: Decoding) -> str | None:
    """What is lost of a damaged video that is kept, in words; None for a whole one.

    Raises DecodeError when the policy does not keep it.
    """
    if not damage:
        return None
    expected = max(header.declared, header.packets, decoded)
    loss = f"{decoded} of {expected} frames could be decoded, {damage.corrupt_frames} of them corrupt, {damage.errors} errors"
    if policy.on_damage == "quarantine":
        what = "decoding.on_damage is quarantine"
    elif decoded < policy.keep_share * expected:
        what = f"decoding.keep_share asks for {policy.keep_share:.0%}"
    else:
        return loss
    raise DecodeError(
        f"{header.path}: damaged from frame {damage.first_frame} on ({damage.message}): {loss}; {what}",
        frame=damage.first_frame,
        library=damage.message,
    )
