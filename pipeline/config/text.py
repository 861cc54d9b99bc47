"""Reading a configuration's YAML as plain data, strictly and with limits, because the file can come from anyone."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import yaml

from pipeline.errors import ConfigError

__all__ = ["read_yaml"]

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000
MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice; YAML's own loader would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: dict[str, yaml.ScalarNode] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():  # a tag can call anything a mapping
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    first = seen[key.value].start_mark.line + 1
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is there twice, first in line {first}", key.start_mark
                    )
                seen[key.value] = key
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> object:
    """The content of a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, holds a key twice, or becomes too large when its aliases are
            resolved.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: the configuration cannot be read ({error.strerror}); paths are relative to {Path.cwd()}: "
            "run from the project's root, or give --config a full path"
        ) from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: expected a configuration of at most {MAX_BYTES} bytes")
    try:
        loader = _Loader(content)
        node = loader.get_single_node()
        if node is None:
            return None
        if (values := _values(node, {})) > MAX_VALUES:
            raise ConfigError(
                f"{path}: expected at most {MAX_VALUES} values, got {values} where its aliases (*name) are resolved"
            )
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except RecursionError:
        raise ConfigError(
            f"{path}: not valid YAML: nested too deeply, or an alias (*name) of what it lies in"
        ) from None


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values in a node; those behind an alias count each time it is used.

    Raises RecursionError for a node that contains itself.
    """
    if id(node) in known:
        if not known[id(node)]:
            raise RecursionError
        return known[id(node)]
    known[id(node)] = 0
    children = node.value if isinstance(node, yaml.CollectionNode) else ()
    parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
    known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
