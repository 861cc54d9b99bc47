"""Plain messages for errors in a configuration, instead of those of the validating library."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["key_of", "wording"]

Facts = Mapping[str, Any]
SECTION = "a section of keys with values"
EXPECTED: dict[str, Callable[[Facts], str]] = {
    "bool_parsing": lambda facts: "true or false",
    "bool_type": lambda facts: "true or false",
    "dict_type": lambda facts: SECTION,
    "finite_number": lambda facts: "a finite number",
    "float_parsing": lambda facts: "a number",
    "float_type": lambda facts: "a number",
    "greater_than": lambda facts: f"more than {facts['gt']:g}",
    "greater_than_equal": lambda facts: f"at least {facts['ge']:g}",
    "int_from_float": lambda facts: "a whole number",
    "int_parsing": lambda facts: "a whole number",
    "int_parsing_size": lambda facts: "a smaller whole number",
    "int_type": lambda facts: "a whole number",
    "invalid_key": lambda facts: "a key that is text",
    "less_than": lambda facts: f"less than {facts['lt']:g}",
    "less_than_equal": lambda facts: f"at most {facts['le']:g}",
    "literal_error": lambda facts: "one of " + facts["expected"].replace(" or ", ", ").replace("'", ""),
    "model_attributes_type": lambda facts: SECTION,
    "model_type": lambda facts: SECTION,
    "multiple_of": lambda facts: f"a multiple of {facts['multiple_of']}",
    "path_type": lambda facts: "a path",
    "string_pattern_mismatch": lambda facts: _pattern(facts["pattern"]),
    "string_type": lambda facts: "text",
    "string_unicode": lambda facts: "text",
    "too_long": lambda facts: f"at most {_values(facts['max_length'])}",
    "too_short": lambda facts: f"at least {_values(facts['min_length'])}",
    "tuple_type": lambda facts: "a list, [a, b]",
    "union_tag_not_found": lambda facts: SECTION,
}


def key_of(location: tuple[Any, ...]) -> str:
    """The dotted key of an error's location; a place in a list is named by its number, from 1."""
    if location and location[-1] == "[key]":  # the name of something in a section, which may be a number by mistake
        location = (*location[:-2], str(location[-2]))
    key = ".".join(str(part) for part in location if not isinstance(part, int))
    numbers = [part for part in location if isinstance(part, int)]
    return f"{key}, value {numbers[-1] + 1}" if numbers else key


def wording(kind: str, message: str, value: Any, facts: Facts) -> str:
    """A message of the form "expected ..., got ...".

    Args:
        kind: `type` of pydantic's error. For a kind that is not known here the library's message is kept.
        message: `msg` of the error.
        value: the value that was given.
        facts: `ctx` of the error.
    """
    if kind in ("value_error", "assertion_error"):
        return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "missing":
        return "is missing"
    expected = EXPECTED[kind](facts) if kind in EXPECTED else message.removeprefix("Input should be ")
    hint = ""
    if kind == "string_type" and isinstance(value, bool | int | float | datetime.date):
        hint = "; put it in quotes"
    elif expected == SECTION and value is None:
        hint = "; leave it out, or give it keys"
    return f"expected {expected}, got {_shown(value)}{hint}"


def _shown(value: Any) -> str:
    """A value as it is in the file, shortened if it is long."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"a section ({', '.join(map(str, value))[:80]})" if value else "a section without keys"
    text = (
        repr(value) if isinstance(value, str | int | float) else str(list(value) if isinstance(value, tuple) else value)
    )
    return text if len(text) <= 80 else f"{text[:77]}..."


def _values(count: int) -> str:
    return f"{count} value" if count == 1 else f"{count} values"


def _pattern(pattern: str) -> str:
    """What the pattern of a name allows, in words."""
    found = re.fullmatch(r"\^\[a-z0-9\]\[a-z0-9[._-]{3}\]\{0,(\d+)\}\$", pattern)
    if not found:
        return f"text of the form {pattern}"
    return f"at most {int(found[1]) + 1} lower-case letters, digits, '_', '.' and '-', the first a letter or digit"
