"""Where results are stored: a folder of this machine, or a URL, which a local folder mirrors.

The name of the mirror is the URL with its special characters escaped, so any path in it tells what it mirrors, in every
process and without a note beside it.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

from pipeline.remote import public

__all__ = ["check_url", "copy_of", "mirror_folder", "output_place", "url_of_mirror", "url_scheme"]

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
PASSWORD = re.compile(r"[^/]+://[^/@]*:[^/]*@")
LONGEST_NAME = 255
"""Bytes that the name of a folder can have."""


def url_scheme(value: object) -> str | None:
    """The scheme of a URL, such as s3; None for a path. One slash is enough, since a Path drops the second."""
    found = SCHEME.match(str(value))
    return found[1] if found else None


def check_url(value: str) -> None:
    """Raise ValueError for an incomplete URL such as s3:/bucket, which would become a folder named `s3:`.

    Also for one that holds a password: it would be in messages, and in the configuration beside every result.
    """
    scheme = url_scheme(value)
    if scheme and PASSWORD.match(value):
        raise ValueError(
            f"expected a URL such as {scheme}://bucket/prefix, and no password in it: passwords come from the "
            f"environment or fsspec's configuration; got {public(value)} and more"
        )
    if scheme and not re.fullmatch(re.escape(scheme) + "://.*[^/].*", value):
        raise ValueError(f"expected a folder, or a URL such as {scheme}://bucket/prefix, got {value!r}")


def output_place(value: object) -> Path | str:
    """The place of results: a path, which may begin with `~`, or the URL of a storage, without slashes at its end.

    Raises ValueError for anything else.
    """
    if not isinstance(value, str | Path):
        raise ValueError(f"expected a path, got {value!r}")
    scheme = url_scheme(value)
    if not scheme:
        return Path(value).expanduser()
    url = str(value)
    check_url(url)
    if scheme == "file":
        return Path(url.removeprefix("file://"))
    url = url.rstrip("/")
    if len(quote(url, safe="")) > LONGEST_NAME:
        raise ValueError(
            f"expected a URL that, with its special characters escaped, has at most {LONGEST_NAME} characters, "
            f"got {len(quote(url, safe=''))}: {url}"
        )
    return url


def mirror_folder(scratch: Path, url: str) -> Path:
    """The folder below `scratch` that mirrors a URL."""
    return scratch / quote(url, safe="")


def copy_of(url: str, scratch: Path) -> Path | None:
    """Where this machine keeps its copy of the output at a URL, <output>/<experiment>/<name>; None for another URL."""
    root, *names = url.rsplit("/", 2)
    if len(names) < 2 or not all(names) or "://" not in root or root.endswith("/"):
        return None
    return mirror_folder(scratch, root).joinpath(*names)


def url_of_mirror(name: str) -> str | None:
    """The URL that a folder of this name mirrors; None if it is not a mirror."""
    url = unquote(name)
    return url if url != name and quote(url, safe="") == name and "://" in url and url_scheme(url) else None
