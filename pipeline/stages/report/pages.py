"""From templates to files: everything is escaped, and nothing runs but the scripts that are shipped with this package.

Style and scripts lie in the page itself, and its Content-Security-Policy names them by their hashes: a page opened from
disk has no origin that a policy could name instead. Data is a JSON block that no browser runs.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.stages.common.outputs import whole_file

__all__ = ["safe_json", "write_page"]

HERE = Path(__file__).parent
SCRIPTS = {
    "index": ("strip.js", "index.js"),
    "video": ("strip.js", "video.js"),
    "day": ("strip.js", "day.js"),
    "days": (),
}
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def safe_json(value: object) -> Markup:
    """JSON that can stand in a script element: no text in it ends the element or begins a comment.

    Raises ValueError for numbers that JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for letter, escaped in ESCAPES.items():
        text = text.replace(letter, escaped)
    return Markup(text)  # noqa: S704 - its three letters that mean something in HTML are escaped


def write_page(path: Path, kind: str, facts: Mapping[str, object], data: object) -> None:
    """Write one page.

    Args:
        path: of the file.
        kind: index or video; day or days, of what is scored every night.
        facts: what its template shows.
        data: what its script reads, as JSON has it.
    """
    style, script = _asset("style.css"), "\n".join(_asset(name) for name in SCRIPTS[kind])
    inlined = {"style": Markup(style), "script": Markup(script)}  # noqa: S704 - files of this package
    page = {"policy": _policy(style, script), "data": safe_json(data), "version": _version()}
    text = _environment().get_template(f"{kind}.html.j2").render(**facts, **inlined, **page)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_bytes(text.encode("utf-8", "replace"))  # names of files need not be Unicode


@functools.cache
def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src 'self' file:; "
        "media-src 'self' file:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


@functools.cache
def _environment() -> Environment:
    loader = FileSystemLoader(HERE / "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@functools.cache
def _asset(name: str) -> str:
    return (HERE / "assets" / name).read_text(encoding="utf-8")


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version("gig-vad")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
