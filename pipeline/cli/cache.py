"""`gig cache`: look at the feature cache, check it, clean it, and copy features into and out of it."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from cache import FeatureStore, Finding, NamespaceStats, NotCached
from pipeline.cli.cache_files import export_features, frame_counts, import_features
from pipeline.cli.cache_shared import bar, chosen, json_option, mib, namespaces_argument, print_rows, with_store
from pipeline.errors import OutputError

__all__ = ["cache"]


@click.group()
def cache() -> None:
    """The feature cache."""


cache.add_command(export_features)
cache.add_command(import_features)
cache.add_command(frame_counts)


@cache.command("ls")
@with_store
@click.argument("namespace", required=False)
@json_option
def list_cache(store: FeatureStore, namespace: str | None, as_json: bool) -> None:
    """List the namespaces, or the videos of NAMESPACE."""
    if namespace is None:
        print_rows([_stats_row(name, store.stats(name)) for name in store.namespaces()], as_json)
        return
    chosen(store, [namespace])
    rows = []
    for record in store.records(namespace):
        views, clips, *map_shape = record.shapes["features"]
        row = {"video": record.video_id, "views": views, "clips": clips, "map": "x".join(map(str, map_shape))}
        rows.append(row | {"dtype": record.dtype, "MiB raw": mib(record.feature_bytes), "created": record.created})
    print_rows(rows, as_json)


@cache.command()
@with_store
@click.argument("namespace")
@click.argument("video_id", required=False)
def info(store: FeatureStore, namespace: str, video_id: str | None) -> None:
    """Print what NAMESPACE holds, or the commit record of one of its videos, as JSON."""
    chosen(store, [namespace])
    if video_id is not None:
        facts = asdict(store.record(namespace, video_id))
    else:
        stats = store.stats(namespace)
        facts = {"namespace": namespace, **asdict(stats), "stored_MiB": mib(stats.stored_bytes)}
        facts["stored_share_of_raw"] = _share(stats)
    click.echo(json.dumps(facts, indent=1, ensure_ascii=False))


@cache.command()
@with_store
@namespaces_argument
@click.option("--repair", is_flag=True, help="Withdraw damaged videos: the next extraction makes them again.")
@json_option
def verify(store: FeatureStore, namespaces: tuple[str, ...], repair: bool, as_json: bool) -> None:
    """Read and check every array of every video, in all namespaces or the given ones.

    Exit code 1 if something is damaged, even if it was repaired, or could not be read; 0 if everything is as it was
    written. Payloads without a record are listed and are not damage.
    """
    from cache.verify import verify as check

    findings: list[Finding] = []
    for namespace in chosen(store, namespaces):
        with bar(f"verify {namespace}") as progress:
            findings += check(store, namespace, repair=repair, progress=progress)
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
@namespaces_argument
@click.option(
    "--older-than",
    "hours",
    default=24.0,
    show_default=True,
    help="Hours since the last write. 0 is safe on a local disk; on an object store only this protects live writers.",
)
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@json_option
def gc(store: FeatureStore, namespaces: tuple[str, ...], hours: float, dry_run: bool, as_json: bool) -> None:
    """Remove what interrupted writers left and what was replaced or withdrawn, but nothing that is being written."""
    every = chosen(store, namespaces)
    removed = [
        (namespace, item.payload, mib(item.bytes))
        for namespace in every
        for item in store.gc(namespace, hours * 3600, dry_run)
    ]
    print_rows(
        [{"namespace": namespace, "payload": payload, "MiB": size} for namespace, payload, size in removed], as_json
    )
    if not as_json:
        total = sum(size for _, _, size in removed)
        click.echo(f"{len(removed)} payload(s) {'would be ' if dry_run else ''}removed, {total:.1f} MiB")
        all_ages = sum(len(store.gc(namespace, 0.0, dry_run=True)) for namespace in every)
        if younger := all_ages - (len(removed) if dry_run else 0):
            click.echo(f"{younger} younger than {hours:g} h kept (--older-than)")


@cache.command("rm")
@with_store
@click.argument("namespace")
@click.argument("video_ids", metavar="VIDEO...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only say what would be withdrawn.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(store: FeatureStore, namespace: str, video_ids: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Withdraw videos from NAMESPACE, such as those that a data set no longer lists; `gig cache gc` frees their space.

    A run whose data set lists such a video extracts it again.
    """
    from cache.collect import being_written

    chosen(store, [namespace])
    videos = list(dict.fromkeys(video_ids))
    if missing := [video_id for video_id in videos if not store.has(namespace, video_id)]:
        raise NotCached(f"{namespace}: not in the cache {store.url}: {', '.join(missing)}; nothing was withdrawn")
    if held := [video_id for video_id in videos if being_written(store, namespace, video_id)]:
        raise OutputError(f"{namespace}: a process is writing {', '.join(held)}; nothing was withdrawn")
    what = f"{len(videos)} video(s) of {store.url}/{namespace}: {', '.join(videos)}"
    if dry_run:
        click.echo(f"would withdraw {what}")
        return
    if not yes:
        click.confirm(f"withdraw {what}?", abort=True)
    for video_id in videos:
        store.withdraw(namespace, video_id)
    click.echo(f"withdrew {what}; `gig cache gc` frees the space")


@cache.command()
@with_store
@click.option("--clips", default=128, show_default=True, help="Number of clips to write and read.")
@click.option("--repeats", default=3, show_default=True, help="Number of repetitions; medians are reported.")
@json_option
def bench(store: FeatureStore, clips: int, repeats: int, as_json: bool) -> None:
    """Measure writing and reading in the cache, and with zarr-python's defaults, .npy and HDF5, on generated maps."""
    from cache.bench import compare, generated_maps

    with bar("bench") as progress:
        rows = compare(generated_maps(clips), store.url, repeats, progress=progress)
    print_rows([asdict(row) for row in rows], as_json)


def _stats_row(namespace: str, stats: NamespaceStats) -> dict[str, object]:
    return {
        "namespace": namespace,
        "videos": stats.videos,
        "clips": stats.clips,
        "map": ", ".join("x".join(map(str, shape)) for shape in stats.map_shapes),
        "dtype": ", ".join(stats.dtypes),
        "MiB": mib(stats.stored_bytes),
        "of raw": _share(stats),
        "files": stats.files,
    }


def _share(stats: NamespaceStats) -> float | None:
    return round(stats.stored_bytes / stats.feature_bytes, 3) if stats.feature_bytes else None
