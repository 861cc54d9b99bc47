"""`gig cache`: look at the feature cache, check it, clean it, and carry features in and out."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from tqdm import tqdm

from cache import FeatureStore, Finding, NamespaceStats, NotCached, PlainLayout
from cache.plain import CLIP_AXIS
from pipeline.cli.shared import LocalPath
from pipeline.config.features import check_cache_url
from pipeline.errors import ConfigError

__all__ = ["cache"]

MIB = 2**20
as_json = click.option("--json", "as_json", is_flag=True, help="For machines: one JSON object a line.")


def with_store(function: Callable) -> Callable:
    """Add --cache and pass the store as the first argument."""

    @click.option(
        "--cache", "url", default="var/cache", show_default=True, help="The cache: a folder or an fsspec URL."
    )
    @functools.wraps(function)
    def wrapper(url: str, *args: object, **kwargs: object) -> object:
        try:
            check_cache_url(url)
        except ValueError as error:
            raise ConfigError(f"--cache: {error}") from error
        return function(FeatureStore.open(url), *args, **kwargs)

    return wrapper


some_namespaces = click.argument("namespaces", metavar="[NAMESPACE]...", nargs=-1)


@click.group()
def cache() -> None:
    """The feature cache."""


@cache.command("ls")
@with_store
@click.argument("namespace", required=False)
@as_json
def list_cache(store: FeatureStore, namespace: str | None, as_json: bool) -> None:
    """List the namespaces, or the videos of NAMESPACE."""
    if namespace is None:
        _print_rows([_stats_row(name, store.stats(name)) for name in store.namespaces()], as_json)
        return
    _chosen(store, [namespace])
    rows = []
    for record in store.records(namespace):
        views, clips, *map_shape = record.shapes["features"]
        row = {"video": record.video_id, "views": views, "clips": clips, "map": "x".join(map(str, map_shape))}
        rows.append(row | {"dtype": record.dtype, "MiB raw": _mib(record.feature_bytes), "created": record.created})
    _print_rows(rows, as_json)


@cache.command()
@with_store
@click.argument("namespace")
@click.argument("video_id", required=False)
def info(store: FeatureStore, namespace: str, video_id: str | None) -> None:
    """Print what NAMESPACE holds, or the commit record of one of its videos, as JSON."""
    _chosen(store, [namespace])
    if video_id is not None:
        facts = asdict(store.record(namespace, video_id))
    else:
        stats = store.stats(namespace)
        facts = {"namespace": namespace, **asdict(stats), "stored_MiB": _mib(stats.stored_bytes)}
        facts["stored_share_of_raw"] = _share(stats)
    click.echo(json.dumps(facts, indent=1, ensure_ascii=False))


@cache.command()
@with_store
@some_namespaces
@click.option("--repair", is_flag=True, help="Withdraw damaged videos: the next extraction makes them again.")
@as_json
def verify(store: FeatureStore, namespaces: tuple[str, ...], repair: bool, as_json: bool) -> None:
    """Read and check every array of every video, of all namespaces or those named.

    Exit code 1 when something is damaged, also when that was repaired, or could not be read; 0 when all is as it was
    written. Payloads without a record are listed and are no damage.
    """
    from cache.verify import verify as check

    findings: list[Finding] = []
    for namespace in _chosen(store, namespaces):
        with _bar(f"verify {namespace}") as line:
            findings += check(store, namespace, repair=repair, progress=functools.partial(_advance, line))
    for finding in findings:
        if as_json:
            click.echo(json.dumps(asdict(finding), ensure_ascii=False))
        else:
            where = f"{finding.namespace}/{finding.video_id}" + (f", {finding.array}" if finding.array else "")
            click.echo(f"{finding.kind}: {where}: {finding.problem}" + (" [withdrawn]" if finding.withdrawn else ""))
    problems = sum(finding.kind != "orphan" for finding in findings)
    if not as_json:
        click.echo(f"{problems} problem(s)" if problems else "all is as it was written")
    if problems:
        raise click.exceptions.Exit(1)


@cache.command()
@with_store
@some_namespaces
@click.option(
    "--older-than",
    "hours",
    default=24.0,
    show_default=True,
    help="Hours since the last write. 0 is safe on a local disk; on an object store live writers are told by it alone.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
@as_json
def gc(store: FeatureStore, namespaces: tuple[str, ...], hours: float, dry_run: bool, as_json: bool) -> None:
    """Remove what interrupted writers left, and what was replaced or withdrawn; never what a live writer is writing."""
    rows = []
    for namespace in _chosen(store, namespaces):
        removed = store.gc(namespace, hours * 3600, dry_run)
        rows += [{"namespace": namespace, "payload": item.payload, "MiB": _mib(item.bytes)} for item in removed]
    _print_rows(rows, as_json)
    if not as_json:
        click.echo(
            f"{len(rows)} payload(s) {'would be ' if dry_run else ''}removed, {sum(row['MiB'] for row in rows):.1f} MiB"
        )


@cache.command("export")
@with_store
@click.argument("namespace")
@click.argument("out", type=LocalPath(path_type=Path))
@click.option(
    "--format", "kind", type=click.Choice(["h5", "npy"]), required=True, help="One HDF5 file, or a folder of .npy."
)
@as_json
def export_features(store: FeatureStore, namespace: str, out: Path, kind: str, as_json: bool) -> None:
    """Write NAMESPACE to OUT, a file (h5) or a folder (npy)."""
    from cache.interchange import export_hdf5, export_npy

    _chosen(store, [namespace])
    with _bar(f"export {namespace}") as line:
        ids = (export_hdf5 if kind == "h5" else export_npy)(store, namespace, out, functools.partial(_advance, line))
    _print_ids(ids, as_json, f"{len(ids)} video(s) written to {out}")


@cache.command("import")
@with_store
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("namespace")
@click.option(
    "--fps", type=float, help="Frames a second of the videos, for arrays that were not exported from a cache."
)
@click.option("--frames-per-clip", default=16, show_default=True, help="Frames that a row of such an array stands for.")
@click.option(
    "--equal-parts",
    is_flag=True,
    help="The rows are equal parts of a video, however long it is, such as 32 segments; needs --manifest or --frame-counts.",
)
@click.option(
    "--layout",
    "axes",
    type=click.Choice(list(CLIP_AXIS)),
    help="What the axes of an array are: T clips, D channels, V views. crop:T,D is an array a crop, named v1__0 and on; videos,T,D "
    "many videos in one, see --order (default: told apart by names, shapes and frame counts, or an error).",
)
@click.option(
    "--order", type=click.Path(path_type=Path, dir_okay=False), help="Their ids in order for videos,T,D, one a line."
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, file_okay=False),
    help="Hold the features against the videos of a manifest (gig manifest), and take frames a second from it.",
)
@click.option(
    "--frame-counts",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The same with a table: a CSV with video_id and frames, or a published list that states frames.",
)
@click.option("--segments", type=int, help="Average the rows to so many segments, as public code does for training.")
@click.option("--dtype", type=click.Choice(["float16", "float32"]), help="Convert; default: as the arrays are.")
@click.option("--suffix", default="", help="End of the arrays' names that is not part of the video id, such as _i3d.")
@as_json
def import_features(
    store: FeatureStore,
    source: Path,
    namespace: str,
    fps: float | None,
    as_json: bool,
    order: Path | None,
    manifest: Path | None,
    frame_counts: Path | None,
    **layout: object,
) -> None:
    """Bring features into NAMESPACE from SOURCE: a folder of .npy or .npz files, one such file, or an HDF5 file.

    What `export` wrote comes back bit for bit. Other arrays are (T, D), (T, crops, D), (crops, T, D) or (V, T, H, W,
    D), every crop a view; they are named by their video id. Videos that are there already, unchanged, are left alone.
    """
    from cache.importing import import_features as load
    from pipeline.data.frame_counts import known_lengths
    from pipeline.data.order import read_order

    plain = None
    if fps or manifest or frame_counts:
        known = dict(zip(("frame_counts", "video_fps"), known_lengths(manifest, frame_counts), strict=True))
        ids = read_order(order, suffix=str(layout["suffix"])) if order else ()
        plain = PlainLayout(fps=fps, order=ids, **known, **layout)
    with _bar(f"import {namespace}") as line:
        report = load(store, namespace, source, plain, functools.partial(_advance, line))
    for note in report.notes:
        click.echo(note, err=True)
    there = f"; {len(report.present)} were there already, unchanged" if report.present else ""
    _print_ids(report.video_ids, as_json, f"{len(report.imported)} video(s) imported to {store.url}/{namespace}{there}")


@cache.command()
@with_store
@click.option("--clips", default=128, show_default=True, help="Clips of the maps that are written and read.")
@click.option("--repeats", default=3, show_default=True, help="Times; the medians are reported.")
@as_json
def bench(store: FeatureStore, clips: int, repeats: int, as_json: bool) -> None:
    """Measure writing and reading where the cache lies, beside zarr-python's defaults, .npy and HDF5, on generated
    maps."""
    from cache.bench import compare, generated_maps

    with _bar("bench") as line:
        rows = compare(generated_maps(clips), store.url, repeats, progress=functools.partial(_advance, line))
    _print_rows([asdict(row) for row in rows], as_json)


def _chosen(store: FeatureStore, namespaces: Sequence[str]) -> list[str]:
    """The namespaces that are named, or all. Raises NotCached for one that is not there."""
    present = store.namespaces()
    for namespace in namespaces:
        if namespace not in present:
            raise NotCached(
                f"no namespace {namespace!r} in the cache {store.url}; there are: {', '.join(present) or 'none'}"
            )
    return list(namespaces) or present


def _stats_row(namespace: str, stats: NamespaceStats) -> dict:
    return {
        "namespace": namespace,
        "videos": stats.videos,
        "clips": stats.clips,
        "map": ", ".join("x".join(map(str, shape)) for shape in stats.map_shapes),
        "dtype": ", ".join(stats.dtypes),
        "MiB": _mib(stats.stored_bytes),
        "of raw": _share(stats),
        "files": stats.files,
    }


def _share(stats: NamespaceStats) -> float | None:
    return round(stats.stored_bytes / stats.feature_bytes, 3) if stats.feature_bytes else None


def _mib(size: int) -> float:
    return round(size / MIB, 2)


def _print_rows(rows: list[dict], as_json: bool) -> None:
    """A table, numbers to the right, or one JSON object a line."""
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    if not rows:
        return
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [all(isinstance(row[name], (int, float)) for row in rows) for name in rows[0]]
    for line in cells:
        padded = (
            cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(line, widths, numeric, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def _print_ids(ids: Sequence[str], as_json: bool, sentence: str) -> None:
    """A sentence, or one JSON object a video."""
    for video_id in ids if as_json else ():
        click.echo(json.dumps({"video": video_id}, ensure_ascii=False))
    if not as_json:
        click.echo(sentence)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.{2 if math.fabs(value) < 1000 else 0}f}" if isinstance(value, float) else str(value)


def _bar(title: str) -> tqdm:
    return tqdm(desc=title, unit="step", dynamic_ncols=True, disable=None)  # None: only on a terminal


def _advance(line: tqdm, done: int, total: int, message: str) -> None:
    line.total = total
    line.set_postfix_str(message, refresh=False)
    line.update(done - line.n)
