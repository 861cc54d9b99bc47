"""Video ids as file names and object keys: reversible, and safe on case-insensitive file systems.

Lower-case letters, digits, `-`, `.` and `_` stand for themselves (a leading dot does not); every other byte of the
UTF-8 text, including those of upper-case letters, becomes `=` and two hex digits. A result over 180 characters is cut
and ends in `=~` and 32 digits of its SHA-256; the id is then in the record only.
"""

from __future__ import annotations

import hashlib
import re

from cache.errors import InvalidName

__all__ = ["check_namespace", "escape", "is_hashed", "unescape"]

PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-._")
LONGEST = 180
NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,200}")


def escape(name: str) -> str:
    """The key of a video id. Raises InvalidName for an empty one.

    Examples:
        >>> escape("A b/ü")
        '=41=20b=2f=c3=bc'
        >>> unescape(escape("A b/ü"))
        'A b/ü'
    """
    if not name:
        raise InvalidName("a video id is empty")
    data = name.encode("utf-8", "surrogatepass")
    key = "".join(
        chr(byte) if byte in PLAIN and not (i == 0 and byte == 0x2E) else f"={byte:02x}" for i, byte in enumerate(data)
    )
    if len(key) > LONGEST:
        key = f"{key[: LONGEST - 34].rstrip('=')}=~{hashlib.sha256(data).hexdigest()[:32]}"
    return key


def is_hashed(key: str) -> bool:
    """Whether a key was cut, so that `unescape` cannot give its id."""
    return "=~" in key


def unescape(key: str) -> str:
    """The id of a key that is not hashed. Raises InvalidName for anything `escape` does not make."""
    if is_hashed(key):
        raise InvalidName(f"{key}: the id of a shortened key is in its record")
    try:
        data = re.sub(rb"=([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), key.encode())
        name = data.decode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise InvalidName(f"{key}: not a key of this cache") from error
    if escape(name) != key:
        raise InvalidName(f"{key}: not a key of this cache")
    return name


def check_namespace(namespace: str) -> str:
    """The namespace itself. Raises InvalidName unless it is lower-case letters, digits, `.`, `_` and `-`."""
    if not NAMESPACE.fullmatch(namespace):
        raise InvalidName(
            f"namespace {namespace!r}: expected lower-case letters, digits, '.', '_' and '-', at most 201"
        )
    return namespace
