"""Fields of a YAML format as data: one table says what is taken and what the JSON schema says.

A record is a frozen dataclass whose fields carry a specification (`setting`). `take` checks a
mapping against it, `schema` writes the same rules as JSON schema, so the two cannot drift apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeVar

from spinemat.errors import InvalidInput

LONGEST_SHOWN = 60  # characters of a value in a message


class Spec(Protocol):
    """What a field may hold."""

    def take(self, name: str, value: Any) -> Any:
        """Return the value as the programme holds it, or raise InvalidInput."""

    def schema(self) -> dict[str, Any]:
        """The same rule as JSON schema."""


class Record(Protocol):
    """A dataclass whose fields are all made with `setting`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    either: ClassVar[tuple[tuple[str, str], ...]]
    """Pairs of fields of which exactly one is given."""


R = TypeVar("R", bound=Record)


def refuse(name: str, value: Any, allowed: str) -> InvalidInput:
    """An error whose value stays short, whatever was given."""
    if isinstance(value, Mapping):
        value = "a mapping"
    elif isinstance(value, (list, tuple, set)):
        value = "a list"
    elif isinstance(value, int) and value.bit_length() > 64:
        value = "a number beyond all bounds"
    elif isinstance(value, str):
        value = value[:LONGEST_SHOWN]
    elif not isinstance(value, (bool, int, float, type(None))):
        value = type(value).__name__
    return InvalidInput(name, value, allowed)


@dataclass(frozen=True)
class Number:
    """A finite number within [low, high]; `whole`: without a fraction."""

    low: float
    high: float
    unit: str = ""
    whole: bool = False

    def take(self, name: str, value: Any) -> float:
        """Return the number, an int if it is `whole`.

        Raises:
            InvalidInput: it is not such a number.
        """
        kind = "a whole number, " if self.whole else ""
        allowed = f"{kind}{self.low:g} to {self.high:g} {self.unit}".rstrip()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise refuse(name, value, allowed)
        if not self.low <= value <= self.high or (self.whole and value != math.floor(value)):
            raise refuse(name, value, allowed)
        return int(value) if self.whole else float(value)

    def schema(self) -> dict[str, Any]:
        """The same rule as JSON schema."""
        kind = "integer" if self.whole else "number"
        return {"type": kind, "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Choice:
    """One of some names."""

    options: tuple[str, ...]

    def take(self, name: str, value: Any) -> str:
        """Return the name.

        Raises:
            InvalidInput: it is not one of them.
        """
        if not isinstance(value, str) or value not in self.options:
            raise refuse(name, value, ", ".join(self.options))
        return value

    def schema(self) -> dict[str, Any]:
        """The same rule as JSON schema."""
        return {"enum": list(self.options)}


@dataclass(frozen=True)
class Some:
    """A list of one or more different names."""

    options: tuple[str, ...]

    def take(self, name: str, value: Any) -> tuple[str, ...]:
        """Return the names.

        Raises:
            InvalidInput: it is not such a list.
        """
        if not isinstance(value, list) or not 1 <= len(value) <= len(self.options):
            raise refuse(name, value, f"a list of 1 to {len(self.options)} names")
        names = [Choice(self.options).take(f"{name}[{i}]", v) for i, v in enumerate(value)]
        if len(set(names)) != len(names):
            raise refuse(name, ", ".join(names), "each name once")
        return tuple(names)

    def schema(self) -> dict[str, Any]:
        """The same rule as JSON schema."""
        items = {"enum": list(self.options)}
        most = len(self.options)
        return {
            "type": "array", "items": items, "minItems": 1, "maxItems": most, "uniqueItems": True
        }  # fmt: skip


@dataclass(frozen=True)
class Text:
    """A text of one line that a pattern (of Python and ECMAScript alike) accepts as a whole."""

    pattern: str
    longest: int
    words: str

    def take(self, name: str, value: Any) -> str:
        """Return the text.

        Raises:
            InvalidInput: it is no text, too long or not of that form.
        """
        fits = isinstance(value, str) and len(value) <= self.longest
        if not fits or not re.fullmatch(self.pattern, value):
            raise refuse(name, value, f"{self.words}, at most {self.longest} characters")
        return str(value)

    def schema(self) -> dict[str, Any]:
        """The same rule as JSON schema."""
        return {"type": "string", "pattern": f"^{self.pattern}$", "maxLength": self.longest}


@dataclass(frozen=True)
class OneOfKinds:
    """A list of records, each of the kind that its field `kind` names."""

    kinds: Mapping[str, type[Any]]
    most: int

    def take(self, name: str, value: Any) -> tuple[Any, ...]:
        """Return the records.

        Raises:
            InvalidInput: no list, or a record that is not acceptable.
        """
        if not isinstance(value, list) or not 1 <= len(value) <= self.most:
            raise refuse(name, value, f"a list of 1 to {self.most}")
        found = []
        for i, item in enumerate(value):
            place = f"{name}[{i}]"
            if not isinstance(item, Mapping):
                raise refuse(place, item, "a mapping")
            kind = Choice(tuple(self.kinds)).take(f"{place}.kind", item.get("kind"))
            rest = {key: v for key, v in item.items() if key != "kind"}
            found.append(take(self.kinds[kind], rest, place))
        return tuple(found)

    def schema(self) -> dict[str, Any]:
        """The same rule as JSON schema."""
        kinds = []
        for kind, record in self.kinds.items():
            one = schema(record)
            one["properties"] = {"kind": {"const": kind}} | one["properties"]
            one["required"] = ["kind", *one["required"]]
            kinds.append(one)
        return {"type": "array", "minItems": 1, "maxItems": self.most, "items": {"oneOf": kinds}}


def setting(spec: Spec, text: str, default: Any = MISSING) -> Any:
    """A field of a record: what it may hold, what it means, and what it is when not given."""
    return field(default=default, metadata={"spec": spec, "text": text})


def take(record: type[R], data: Any, place: str = "") -> R:
    """Check a mapping and build the record.

    Args:
        record: the dataclass.
        data: what came from outside.
        place: where it stands, put before every field's name in messages.

    Raises:
        InvalidInput: a field is missing, unknown or not acceptable. Never anything else.
    """
    before = f"{place}." if place else ""
    wanted = {f.name: f for f in fields(record)}
    if not isinstance(data, Mapping):
        raise refuse(place or "file", data, f"a mapping with {', '.join(wanted)}")
    for key, value in data.items():
        if key not in wanted:
            name = key[:LONGEST_SHOWN] if isinstance(key, str) else type(key).__name__
            raise refuse(f"{before}{name}", value, f"only {', '.join(wanted)}")
    for pair in record.either:
        if sum(name in data for name in pair) != 1:
            both = " and ".join(pair)
            known = ", ".join(name for name in pair if name in data) or None
            raise refuse(f"{before}{both}", known, "exactly one of them")
    for name, f in wanted.items():
        if name not in data and f.default is MISSING:
            raise refuse(f"{before}{name}", None, "it must be given")
    given = {name: wanted[name].metadata["spec"] for name in wanted if name in data}
    return record(**{name: s.take(f"{before}{name}", data[name]) for name, s in given.items()})


def schema(record: type[Record]) -> dict[str, Any]:
    """What `take` accepts, as JSON schema (draft 2020-12)."""
    properties, required = {}, []
    for f in fields(record):
        properties[f.name] = {"description": f.metadata["text"], **f.metadata["spec"].schema()}
        if f.default is MISSING:
            required.append(f.name)
        elif f.default is not None:
            properties[f.name]["default"] = f.default
    result: dict[str, Any] = {
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": False,
    }  # fmt: skip
    if record.either:
        one = [{"oneOf": [{"required": [name]} for name in pair]} for pair in record.either]
        result["allOf"] = one
    return result
