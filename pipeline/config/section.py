"""What every section of a configuration is made of: the strict base, fields that several have, digests and YAML."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

__all__ = ["EVERY_FIELD", "NAME_PATTERN", "Section", "UserPath", "UserText", "digest", "inner_section", "to_yaml"]

NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,62}$"

UserPath = Annotated[Path, AfterValidator(lambda path: Path(os.path.expanduser(path)))]
"""A path that may begin with `~`, as in a shell."""

UserText = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path, which can begin with `~`, or something else, such as a URL."""

EVERY_FIELD = {"every_field": True}
"""The context of a dump in which no field is left out."""


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused.

    Attributes:
        later: fields that came after outputs were made without them. At their defaults they are in no digest, record,
            recipe or detector, so that what was made before is recognised.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        data = handler(self)
        if info.context != EVERY_FIELD:
            for name in self.later:
                if name in data and getattr(self, name) == type(self).model_fields[name].default:
                    del data[name]
        return data


def inner_section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field is, or of which it is a list; None for plain values."""
    for kind in (annotation, *(get_args(annotation) if get_origin(annotation) is tuple else ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def digest(*parts: object) -> str:
    """8 hex digits of SHA-256 over the canonical JSON of sections (models) and plain values."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def to_yaml(section: BaseModel) -> str:
    """The resolved section as YAML, with all defaults."""
    data = section.model_dump(mode="json", context=EVERY_FIELD)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
