"""What identifies the code of a backbone that is a module of the user's own, `python:<module>`. Loads no torch.

The program's own backbones are identified by the stage versions instead.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from pipeline.config.features import Backbone
from pipeline.errors import ConfigError

__all__ = ["code_sha256"]


def code_sha256(backbone: Backbone) -> str | None:
    """SHA-256 of the source of a `python:` backbone: of its file, or of all Python files of a package.

    What the module imports from elsewhere has no part in it. A process asks once, because it imports a module once.

    Args:
        backbone: the section of the configuration.

    Returns:
        64 hexadecimal digits; None for a backbone of the program.

    Raises:
        ConfigError: Python does not find the module, or it has no file.
    """
    return _code_sha256(backbone.model) if backbone.family == "python" else None


@cache
def _code_sha256(module: str) -> str:
    name = f"python:{module}"
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"backbone.name: {name} cannot be used here: {error}") from error
    if found is None:
        raise ConfigError(f"backbone.name: {name} cannot be used here: No module named {module!r}")
    if not found.origin or not Path(found.origin).is_file():
        raise ConfigError(f"backbone.name: {name} cannot be used here: it is no file")
    own = Path(found.origin)
    folder = own.parent
    files = sorted(folder.rglob("*.py")) if found.submodule_search_locations else [own]
    hashed = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        hashed.update(f"{file.relative_to(folder).as_posix()}\n{len(content)}\n".encode() + content)
    return hashed.hexdigest()
