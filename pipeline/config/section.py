"""What every section of a configuration is made of: the strict base, and the kinds of fields that several have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

__all__ = ["EVERY_FIELD", "NAME_PATTERN", "Section", "UserPath", "UserText"]

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
