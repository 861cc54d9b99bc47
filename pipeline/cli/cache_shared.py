"""What the commands of `gig cache` share: the store, the choice of namespaces, progress and printing."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import click
from tqdm import tqdm

from cache import FeatureStore, NotCached
from cache.progress import Progress
from pipeline.config.mirrors import check_url
from pipeline.errors import ConfigError

__all__ = [
    "bar",
    "chosen",
    "json_option",
    "mib",
    "namespaces_argument",
    "print_ids",
    "print_rows",
    "with_store",
]

MIB = 2**20
json_option = click.option("--json", "as_json", is_flag=True, help="For machines: one JSON object per line.")
namespaces_argument = click.argument("namespaces", metavar="[NAMESPACE]...", nargs=-1)


def with_store(function: Callable[..., object]) -> Callable[..., object]:
    """Add --cache and pass the store as the first argument."""

    @click.option(
        "--cache", "url", default="var/cache", show_default=True, help="The cache: a folder or an fsspec URL."
    )
    @functools.wraps(function)
    def wrapper(url: str, *args: object, **kwargs: object) -> object:
        try:
            check_url(url)
        except ValueError as error:
            raise ConfigError(f"--cache: {error}") from error
        return function(FeatureStore.open(url), *args, **kwargs)

    return wrapper


def chosen(store: FeatureStore, namespaces: Sequence[str]) -> list[str]:
    """The given namespaces, or all if none is given. Raises NotCached for one that is not in the store."""
    present = store.namespaces()
    for namespace in namespaces:
        if namespace not in present:
            raise NotCached(
                f"no namespace {namespace!r} in the cache {store.url}; there are: {', '.join(present) or 'none'}"
            )
    return list(namespaces) or present


def mib(size: int) -> float:
    """Bytes in MiB, rounded."""
    return round(size / MIB, 2)


def print_rows(rows: Sequence[Mapping[str, object]], as_json: bool) -> None:
    """Print a table, with numbers to the right, or one JSON object per row."""
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


def print_ids(ids: Sequence[str], as_json: bool, sentence: str) -> None:
    """Print a sentence, or one JSON object per video."""
    for video_id in ids if as_json else ():
        click.echo(json.dumps({"video": video_id}, ensure_ascii=False))
    if not as_json:
        click.echo(sentence)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.{2 if math.fabs(value) < 1000 else 0}f}" if isinstance(value, float) else str(value)


@contextmanager
def bar(title: str) -> Iterator[Progress]:
    """A progress bar, where standard error is a terminal, as a progress callback of the cache."""
    with tqdm(desc=title, unit="step", dynamic_ncols=True, disable=None) as line:  # None: only on a terminal

        def progress(done: int, total: int, message: str) -> None:
            line.total = total
            line.set_postfix_str(message, refresh=False)
            line.update(done - line.n)

        yield progress
