"""What extraction starts from: decoders, files already in the cache, imported features, and the limit of damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache import CommitRecord, FeatureStore, NotCached
from cache.plain import length_problem
from pipeline.config import Decoding, Experiment
from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import VideoHeader, content_sha256
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.manifest import VideoEntry
from pipeline.errors import DecodeError, LengthMismatch
from pipeline.progress import Say
from pipeline.remote import AnyPath, RemotePath
from pipeline.stages.common.picture import fit_of
from pipeline.stages.common.quarantine import Quarantine

__all__ = ["ExtractReport", "check_damage", "experiment_workers", "find_imported", "is_current"]

SHOWN = 5  # names or problems in one message


@dataclass(frozen=True)
class ExtractReport:
    """What one call did.

    Attributes:
        extracted: ids written.
        cached: ids found complete in the cache.
        quarantined: ids in quarantine, before or since.
        damaged: those of `extracted` that were damaged in part and kept.
    """

    extracted: tuple[str, ...]
    cached: tuple[str, ...]
    quarantined: tuple[str, ...]
    damaged: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Such as `3 videos extracted, 1 of them damaged, 5 were in the cache, 1 in quarantine`."""
        parts = [f"{len(self.extracted)} videos extracted"]
        parts += [f"{len(self.damaged)} of them damaged"] if self.damaged else []
        parts += [f"{len(self.cached)} were in the cache"]
        parts += [f"{len(self.quarantined)} in quarantine"] if self.quarantined else []
        return ", ".join(parts)


def experiment_workers(experiment: Experiment, decoder: str = "pipeline.data.decoding.decode") -> DecodeWorkers:
    """Decoder processes with the experiment's settings; for `decoder` see `DecodeWorkers`."""
    machine = experiment.machine
    return DecodeWorkers(
        machine.decode_workers,
        machine.decode_timeout_s,
        fit=fit_of(experiment),
        max_pixels=experiment.decoding.max_pixels,
        decoder=decoder,
    )


def is_current(store: FeatureStore, namespace: str, video_id: str, path: AnyPath, weights_sha256: str) -> bool:
    """Whether the cached features were made from the file as it is now, and with these weights.

    A namespace names the recipe of fine-tuned weights, not the weights: trained again elsewhere, they can differ.
    """
    provenance = store.record(namespace, video_id).provenance
    if provenance["backbone"]["weights_sha256"] != weights_sha256:
        return False
    source = provenance["source"]
    damage = source.get("damage")
    if damage and "lost" not in damage:
        return False  # made when lost frames did not keep their places
    if isinstance(path, RemotePath):
        if path.exists() and path.version() and source.get("version") == path.version():
            return True
    elif path.is_file():
        facts = path.stat()
        if (source["bytes"], source.get("mtime_ns")) == (facts.st_size, facts.st_mtime_ns):
            return True
    return path.exists() and content_sha256(path) == source["sha256"]


def find_imported(
    store: FeatureStore,
    namespace: str,
    videos: Sequence[VideoEntry],
    present: set[str],
    quarantine: Quarantine,
    most: int,
    say: Say,
) -> ExtractReport:
    """The report of a split whose features were imported.

    Videos without features go to quarantine as long as that holds at most `most` videos; those whose features have been
    imported since leave it.

    Args:
        store: the cache.
        namespace: the imported features.
        videos: those of the split.
        present: ids in the namespace.
        quarantine: of the experiment.
        most: how many videos may be in quarantine.
        say: told of every video that goes there or leaves it.

    Raises:
        NotCached: naming the videos without features, if they are too many.
        LengthMismatch: naming the videos whose features do not fit their number of frames, with both lengths.
    """
    quarantined = set(quarantine.ids())
    if found := [video.video_id for video in videos if video.video_id in quarantined & present]:
        quarantine.clear(found)
        quarantined -= set(found)
        say(f"{namespace}: features are there now, out of quarantine: {', '.join(found)}")
    entries = [video for video in videos if video.video_id in present]
    ids = [entry.video_id for entry in entries]
    missing = [video for video in videos if video.video_id not in present | quarantined]
    if missing and (not entries or len(quarantined) + len(missing) > most):
        raise NotCached(
            f"{namespace}: expected imported features of {len(videos)} videos, {len(missing)} are not there: "
            f"{_some([video.video_id for video in missing])}; the namespace holds {_some(sorted(present)) or 'none'}. "
            f"Import them, or go on without them: machine.max_quarantined: {len(quarantined) + len(missing)}"
        )
    for video in missing:
        record = quarantine.add(video.video_id, video.path, video.split, NotCached(f"no features in {namespace}"))
        say(f"{video.video_id}: {record.reason}: left out, in quarantine")
        quarantined.add(video.video_id)
    wrong = [
        problem
        for entry in entries
        if entry.packets and (problem := _length(store.record(namespace, entry.video_id), entry))
    ]
    if wrong:
        lines = "\n  ".join(wrong[:SHOWN] + ["..."] * (len(wrong) > SHOWN))
        raise LengthMismatch(
            f"{namespace}: the imported features of {len(wrong)} of {len(ids)} videos are not as long as the videos:"
            f"\n  {lines}\n"
            "import them with the layout and the frames per clip that they have, or as equal parts "
            "(gig cache import --help)"
        )
    return ExtractReport((), tuple(ids), tuple(sorted(quarantined & {video.video_id for video in videos})))


def _length(record: CommitRecord, entry: VideoEntry) -> str | None:
    """What is wrong when a video and its features differ by at least one clip, or one part of equal parts."""
    frames, facts = record.shapes["times"][0], record.provenance.get("imported", {})
    clips, length = facts.get("clips"), record.shapes["frames"][2]
    if clips and not facts["equal_parts"]:
        problem = length_problem(clips, facts["frames_per_clip"], entry.packets)
        return f"{entry.video_id}: {problem}" if problem else None
    reach = -(-frames // clips) if clips and facts["equal_parts"] else length
    if abs(frames - entry.packets) < max(1, reach):
        return None
    return f"{entry.video_id}: its features are of {frames} frames, the video has {entry.packets}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def check_damage(header: VideoHeader, frames: int, damage: Damage, policy: Decoding) -> str | None:
    """What a damaged video that is kept has lost, in words; None for a whole one.

    Args:
        header: what the file says about itself.
        frames: number of frames, lost ones included.
        damage: what was skipped while it was decoded.
        policy: how much damage is accepted.

    Raises:
        DecodeError: the policy does not keep the video.
    """
    if not damage and not header.fault:
        return None
    expected = max(header.declared, header.packets, frames)
    sound = frames - damage.lost_frames - damage.corrupt_frames
    kinds = {"lost": damage.lost_frames, "corrupt": damage.corrupt_frames, "missing at the end": expected - frames}
    loss = f"{sound} of {expected} frames are sound"
    loss += "".join(f", {count} {kind}" for kind, count in kinds.items() if count) + f", {damage.errors} errors"
    if not damage:
        loss += f"; {header.fault}"
    if policy.on_damage == "quarantine":
        what = "decoding.on_damage is quarantine"
    elif sound < policy.keep_share * expected:
        what = f"decoding.keep_share asks for {policy.keep_share:.0%}"
    else:
        return loss
    first, message = (damage.first_frame, damage.message) if damage else (frames, header.fault)
    raise DecodeError(
        f"{header.path}: damaged from frame {first} on ({message}): {loss}; {what}", frame=first, library=message
    )
