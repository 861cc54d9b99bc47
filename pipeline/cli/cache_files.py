"""`gig cache export`, `import` and `frame-counts`: features to files, from files, and the lengths in them."""

from __future__ import annotations

from pathlib import Path

import click

from cache import FeatureStore, PlainLayout
from cache.plain import CLIP_AXIS
from pipeline.cli.cache_shared import bar, chosen, json_option, print_ids, with_store
from pipeline.cli.paths import LocalPath
from pipeline.errors import ManifestError, OutputError

__all__ = ["export_features", "frame_counts", "import_features"]

frames_per_clip_option = click.option(
    "--frames-per-clip", default=16, show_default=True, help="Frames that a row of such an array stands for."
)
layout_option = click.option(
    "--layout",
    "axes",
    type=click.Choice(list(CLIP_AXIS)),
    help="The axes of an array: T clips, D channels, V views. crop:T,D means one array per crop: v1__0, v1__1 and "
    "so on, or v1_0, v1_1; videos,T,D many videos in one array, see --order (default: found by names, shapes and "
    "frame counts).",
)
suffix_option = click.option(
    "--suffix", default="", help="End of the arrays' names that is not part of the video id, such as _i3d."
)


@click.command("export")
@with_store
@click.argument("namespace")
@click.argument("out", type=LocalPath(path_type=Path))
@click.option(
    "--format", "kind", type=click.Choice(["h5", "npy"]), required=True, help="One HDF5 file, or a folder of .npy."
)
@json_option
def export_features(store: FeatureStore, namespace: str, out: Path, kind: str, as_json: bool) -> None:
    """Write NAMESPACE to OUT, a file (h5) or a folder (npy)."""
    from cache.interchange import export_hdf5, export_npy

    chosen(store, [namespace])
    export = export_hdf5 if kind == "h5" else export_npy
    with bar(f"export {namespace}") as progress:
        ids = export(store, namespace, out, progress)
    print_ids(ids, as_json, f"{len(ids)} video(s) written to {out}")


@click.command("import")
@with_store
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("namespace")
@click.option(
    "--fps", type=float, help="Frames per second of the videos, for arrays that were not exported from a cache."
)
@frames_per_clip_option
@click.option(
    "--equal-parts",
    is_flag=True,
    help="The rows are equal parts of a video of any length, such as 32 segments; needs --manifest or --frame-counts.",
)
@layout_option
@click.option(
    "--order",
    type=click.Path(path_type=Path, dir_okay=False),
    help="For videos,T,D: a file with the ids in order, one per line.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, file_okay=False),
    help="Check the features against the videos of a manifest (gig manifest), and take frames per second from it.",
)
@click.option(
    "--frame-counts",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The same with a table: a CSV with video_id and frames, or a published list with frame counts.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "test"]),
    help="Import only the videos of this split of the manifest or table; those of the other are left aside.",
)
@click.option("--segments", type=int, help="Average the rows to this many segments, as public code does for training.")
@click.option(
    "--dtype", type=click.Choice(["float16", "float32"]), help="Type to convert to (default: that of the arrays)."
)
@suffix_option
@json_option
def import_features(
    store: FeatureStore,
    source: Path,
    namespace: str,
    fps: float | None,
    frames_per_clip: int,
    equal_parts: bool,
    axes: str | None,
    order: Path | None,
    manifest: Path | None,
    frame_counts: Path | None,
    split: str | None,
    segments: int | None,
    dtype: str | None,
    suffix: str,
    as_json: bool,
) -> None:
    """Import features into NAMESPACE from SOURCE: a folder of .npy or .npz files, one such file, or an HDF5 file.

    What `export` wrote is restored bit for bit. Other arrays are (T, D), (T, crops, D), (crops, T, D) or (V, T, H, W,
    D), named by their video id; each crop becomes a view. Videos that are already there, unchanged, are skipped.
    """
    from cache.importing import import_features as load
    from pipeline.data.frame_counts import known_lengths
    from pipeline.data.order import read_order

    plain = None
    if fps or manifest or frame_counts or split:
        known = known_lengths(manifest, frame_counts, split)
        plain = PlainLayout(
            fps=fps,
            frames_per_clip=frames_per_clip,
            segments=segments,
            dtype=dtype,
            suffix=suffix,
            axes=axes,
            equal_parts=equal_parts,
            order=read_order(order, suffix=suffix) if order else (),
            frame_counts=known.frames,
            videos=known.chosen,
            video_fps=known.fps,
        )
    with bar(f"import {namespace}") as progress:
        report = load(store, namespace, source, plain, progress)
    for note in report.notes:
        click.echo(note, err=True)
    there = f"; {len(report.present)} were there already, unchanged" if report.present else ""
    print_ids(report.video_ids, as_json, f"{len(report.imported)} video(s) imported to {store.url}/{namespace}{there}")


@click.command("frame-counts")
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--train", multiple=True, type=click.Path(path_type=Path, exists=True), help="Features of training videos only."
)
@click.option(
    "--test", multiple=True, type=click.Path(path_type=Path, exists=True), help="Features of test videos only."
)
@click.option("--out", type=LocalPath(path_type=Path), required=True, help="The table, a CSV file, such as counts.csv.")
@click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), help="Frames per second of the videos, for the table."
)
@frames_per_clip_option
@layout_option
@suffix_option
def frame_counts(
    sources: tuple[Path, ...],
    train: tuple[Path, ...],
    test: tuple[Path, ...],
    out: Path,
    fps: float | None,
    frames_per_clip: int,
    axes: str | None,
    suffix: str,
) -> None:
    """Write a table of frame counts of the videos whose features lie in SOURCES, for `gig manifest`.

    For data sets whose videos and lengths are not at hand. A video counts as having as many frames as its clips; the
    table says so, and up to one clip more may follow in the video. Only the headers of the files are read.
    """
    from cache.plain_files import clip_counts
    from pipeline.data.frame_counts import CountedVideo, write_frame_counts

    places = [*((path, "") for path in sources), *((p, "train") for p in train), *((p, "test") for p in test)]
    if not places:
        raise click.UsageError("expected features: SOURCES, --train or --test")
    if out.exists():
        raise OutputError(f"{out} is there already: remove it or give another --out")
    layout = PlainLayout(frames_per_clip=frames_per_clip, axes=axes, suffix=suffix)
    found: dict[str, CountedVideo] = {}
    for path, split in places:
        counted = clip_counts(path, layout)
        for note in counted.notes:
            click.echo(note, err=True)
        for video_id, clips in counted.clips.items():
            if video_id in found:
                raise ManifestError(f"{video_id}: has features in {found[video_id].place} and in {path}")
            frames = clips * frames_per_clip
            found[video_id] = CountedVideo(str(path), video_id, frames, fps or 0.0, split, clip_frames=frames_per_clip)
    write_frame_counts(out, found.values())
    click.echo(f"{len(found)} video(s), {sum(video.n_frames for video in found.values())} frames: {out}")
