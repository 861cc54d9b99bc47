"""Paths on the command line: those of this machine, and those that may be the URL of an output."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pipeline.cli.shared import say
from pipeline.config.machine import Paths
from pipeline.config.mirrors import copy_of, url_scheme
from pipeline.stages.common.mirror import is_made
from pipeline.stages.common.outputs import fetch_folder

__all__ = ["FOLDER", "STORED_FOLDER", "LocalPath", "StoredPath"]


class LocalPath(click.Path):
    """A path of this machine for output; a URL is refused, since it would become a folder named `s3:`."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, context: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if scheme := url_scheme(value):
            self.fail(
                f"expected a path of this machine, got {str(value)!r}: only paths.output and paths.cache can lie on "
                f"{scheme}",
                param,
            )
        return super().convert(value, param, context)


class StoredPath(LocalPath):
    """A path to read: one of this machine, or the URL of an output such as s3://bucket/var/mine/scores-gig-1a2b3c4d.

    What lies at the URL is fetched, and the path is that of this machine's copy.
    """

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, context: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if url_scheme(value):
            url = str(value).rstrip("/")
            folder = copy_of(url, Paths().scratch)
            if not folder or not is_made(folder):
                self.fail(f"{url}: expected the URL of a finished output, <paths.output>/<experiment>/<name>", param)
            fetch_folder(folder, say)
            value = folder
        return super().convert(value, param, context)


FOLDER = LocalPath(path_type=Path, file_okay=False)
STORED_FOLDER = StoredPath(path_type=Path, file_okay=False)
with_json = click.option("--json", "as_json", is_flag=True, help="For machines: JSON in place of a table.")


FOLDER = LocalPath(path_type=Path, file_okay=False)
STORED_FOLDER = StoredPath(path_type=Path, file_okay=False)
