"""Tidy tables of a bag: one row per observation, one column per quantity, units in its name.

Every topic has a table with one row per message. Sequences in messages (fingers, levels, points of
a contour) have tables of their own with one row per entry, keyed by the same time `t_s`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spinemat.analysis.bags import SECOND, Bag, BagError, Channel, about_json
from spinemat.analysis.columns import BLOCK, Columns, decode, flat_fields
from spinemat.units import FINGERS, PARTS, WORDS, Part, column

if TYPE_CHECKING:
    import pandas as pd

_UNWANTED = ("header.frame_id", "header.stamp.sec", "header.stamp.nanosec")


@dataclass(frozen=True)
class Coded:
    """A column of few different words: `words[codes]`."""

    codes: NDArray[np.int8 | np.int16]
    words: tuple[str, ...]


Table = dict[str, "NDArray[Any] | Coded"]


def table_name(topic: str, part: str = "") -> str:
    """Return the name of a table: ``drive/state`` with part ``fingers``: drive_state_fingers."""
    name = topic.strip("/").replace("/", "_")
    return f"{name}_{part}" if part else name


def finger_names(bag: Bag) -> tuple[str, ...]:
    """Names of the fingers in the mat that was recorded; empty when the bag does not tell."""
    mat = about_json(bag, "mat")
    try:
        return tuple(str(name) for name in mat["fingers"])
    except (TypeError, KeyError):
        return ()


def blocks(
    bag: Bag, topics: Collection[str] | None = None, size: int = BLOCK
) -> Iterator[tuple[str, dict[str, Table]]]:
    """Yield (relative topic, its tables) for block after block of messages, in one pass.

    Args:
        bag: the recording.
        topics: relative names; None: all.
        size: messages per block.
    """
    names = finger_names(bag)
    full = None if topics is None else {bag.full(name) for name in topics}
    waiting: dict[str, tuple[Channel, list[int], list[bytes]]] = {}

    def tables(entry: tuple[Channel, list[int], list[bytes]]) -> tuple[str, dict[str, Table]]:
        topic, times, raws = entry
        return bag.relative(topic.name), _tables(bag, topic, times, raws, names)

    for topic, time, raw in bag.messages(full):
        entry = waiting.get(topic.name)
        if entry is None:
            entry = waiting[topic.name] = (topic, [], [])
        entry[1].append(time)
        entry[2].append(raw)
        if len(entry[2]) >= size:
            del waiting[topic.name]
            yield tables(entry)
    for entry in waiting.values():
        yield tables(entry)


def arrays(bag: Bag, topic: str, fields: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return fields of a topic as NumPy arrays in SI units.

    Args:
        bag: the recording.
        topic: relative name, such as ``drive/state``.
        fields: names as in the message definition; None: all numbers and texts.

    Returns:
        ``t`` in s, shape (m,), and each field: (m,) for a number or a text, (m, n) for a sequence.

    Raises:
        BagError: there is no such topic or field, or a sequence changes its length.
    """
    return gather(bag, {topic: fields})[0][topic]


def gather(
    bag: Bag,
    wanted: Mapping[str, Collection[str] | None],
    whole: Collection[str] = (),
) -> tuple[dict[str, dict[str, NDArray[Any]]], dict[str, list[Any]]]:
    """Return arrays of some topics and all messages of others, in one pass over the bag.

    Args:
        bag: the recording.
        wanted: fields by relative topic, as in `arrays`.
        whole: relative topics whose messages are decoded as a whole; missing ones are empty.

    Raises:
        BagError: as `arrays`.
    """
    columns: dict[str, tuple[str, Columns, list[int]]] = {}
    for topic, fields in wanted.items():
        found = _topic(bag, topic)
        if found.type not in bag.types.fielddefs:
            raise BagError(bag.path, f"{topic}: the bag does not say what {found.type} is made of")
        known = flat_fields(bag.types, found.type)
        if fields is None:
            fields = [f for f in known if f not in _UNWANTED and known[f] != "string[]"]
        for name in fields:
            if name not in known:
                raise BagError(
                    bag.path, f"{topic} has no field {name!r}; it has {', '.join(known)}"
                )
        columns[found.name] = topic, Columns(bag.types, found.type, list(fields)), []
    messages: dict[str, list[Any]] = {name: [] for name in whole}
    decoded = {bag.full(name): messages[name] for name in whole}
    for channel, time, raw in bag.messages({*columns, *decoded}):
        if channel.name in columns:
            topic, collected, times = columns[channel.name]
            try:
                collected.add(raw)
            except ValueError as error:
                raise BagError(bag.path, f"{topic}: {error}") from error
            times.append(time)
        else:
            decoded[channel.name].append(bag.decode(channel, raw))
    result = {}
    for topic, collected, times in columns.values():
        try:
            result[topic] = collected.get()
        except ValueError as error:
            raise BagError(bag.path, f"{topic}: {error}") from error
        result[topic].setdefault("t", np.array(times) / SECOND)
    return result, messages


def table(bag: Bag, topic: str, part: str = "") -> pd.DataFrame:
    """Return one of a topic's tables as a DataFrame.

    Args:
        bag: the recording.
        topic: relative name, such as ``drive/state``.
        part: such as ``fingers``; empty: the table with one row per message.

    Raises:
        BagError: there is no such topic or part.
    """
    import pandas as pd

    found = _topic(bag, topic)
    parts = ["", *(p.name for p in PARTS.get(_short(found.type), ()))]
    if part not in parts:
        raise BagError(bag.path, f"{topic} has no part {part!r}; it has {', '.join(parts[1:])}")
    pieces = [
        pd.DataFrame({name: _plain(values) for name, values in tables[part].items()})
        for _, tables in blocks(bag, {topic})
        if part in tables
    ]
    if not pieces:
        return pd.DataFrame()
    if len(pieces) == 1:
        return pieces[0]
    for name in pieces[0].columns:  # equal words in all pieces, or concat falls back to texts
        if isinstance(pieces[0][name].dtype, pd.CategoricalDtype):
            words = pd.api.types.union_categoricals([p[name] for p in pieces]).categories
            for piece in pieces:
                piece[name] = piece[name].cat.set_categories(words)
    return pd.concat(pieces, ignore_index=True)


def _plain(values: NDArray[Any] | Coded) -> Any:
    import pandas as pd

    if isinstance(values, Coded):
        codes: Any = values.codes
        words: Any = list(values.words)
        return pd.Categorical.from_codes(codes, words)
    return values


def _topic(bag: Bag, name: str) -> Channel:
    found = bag.topics.get(bag.full(name))
    if found is None:
        there = ", ".join(bag.relative(t) for t in bag.topics)
        raise BagError(bag.path, f"topic {name!r} was not recorded; there are: {there}")
    return found


def _short(kind: str) -> str:
    return kind.rpartition("/")[2]


def _tables(
    bag: Bag, topic: Channel, times: list[int], raws: list[bytes], names: tuple[str, ...]
) -> dict[str, Table]:
    """Return the tables of one block of messages."""
    store, kind = bag.types, _short(topic.type)
    if topic.type not in store.fielddefs:
        return {}
    try:
        found = _regular(store, topic.type, raws, names)
    except ValueError:
        found = None
    if found is None:
        try:
            found = _irregular(store, topic.type, raws, names)
        except ValueError as error:
            bag.say(f"{topic.name}: {error}; {len(raws)} messages are left out")
            return {}
    if "t_s" not in found[""]:
        found[""] = {"t_s": np.array(times) / SECOND, **found[""]}
    for part in PARTS.get(kind, ()):
        rows = found.get(part.name)
        if rows is not None and "t_s" not in rows:
            rows["t_s"] = np.asarray(found[""]["t_s"])
    return found


def _regular(
    store: Any, kind: str, raws: list[bytes], names: tuple[str, ...]
) -> dict[str, Table] | None:
    """Return the tables of messages whose sequences hold numbers and keep their lengths."""
    known = flat_fields(store, kind)
    if any(_is_nested(store, kind, f) for f in _fields(store, kind)):
        return None
    columns = Columns(store, kind, [f for f in known if f not in _UNWANTED])
    columns.extend(raws)
    values = columns.get()
    short = _short(kind)
    main: Table = {"t_s": values["t"]} if "t" in values else {}
    inside = {field for part in PARTS.get(short, ()) for field in part.fields}
    for field, kinds in known.items():
        if field in values and not kinds.endswith("[]"):
            main[column(short, field)] = _worded(short, field, values[field])
        elif kinds == "string[]" and field not in inside:
            texts = ["; ".join(row) for row in values[field]]
            main[column(short, field)] = np.array(texts, dtype=object)
    _join_stamps(short, main)
    found = {"": main}
    for part in PARTS.get(short, ()):
        shapes = {values[f].shape for f in part.fields if f in values}
        if len(shapes) != 1:
            return None
        ((m, n),) = shapes
        if n == 0:
            continue
        rows: Table = {}
        for key in ("t_s", "cycle"):
            if key in main:
                rows[key] = np.repeat(np.asarray(main[key]), n)
        rows[part.index] = _entries(part, n, m, names)
        for field in part.fields:
            if field in values:
                rows[column(short, field)] = _worded(short, field, values[field].ravel())
        found[part.name] = rows
    return found


def _irregular(
    store: Any, kind: str, raws: list[bytes], names: tuple[str, ...]
) -> dict[str, Table]:
    """Return the tables of any messages, decoded one by one."""
    messages = [decode(store, raw, kind) for raw in raws]
    known, short = flat_fields(store, kind), _short(kind)
    stamped = "header.stamp.sec" in known
    main: Table = {}
    if stamped:
        stamps = [m.header.stamp for m in messages]
        main["t_s"] = np.array([s.sec + 1e-9 * s.nanosec for s in stamps])
    for field, what in known.items():
        if field in _UNWANTED or (what.endswith("[]") and what != "string[]"):
            continue
        cells = [_path(m, field) for m in messages]
        if what == "string[]":
            if any(field in part.fields for part in PARTS.get(short, ())):
                continue
            cells = ["; ".join(texts) for texts in cells]
        texts = what.startswith("string")
        main[column(short, field)] = _worded(
            short, field, np.array(cells, dtype=object if texts else None)
        )
    _join_stamps(short, main)
    found = {"": main}
    for part in PARTS.get(short, ()):
        cut = _cut(store, kind, part, messages, names)
        if cut is not None:
            lengths, rows = cut
            keys: Table = {
                k: np.repeat(np.asarray(main[k]), lengths) for k in ("t_s",) if k in main
            }
            found[part.name] = keys | rows
    return found


def _cut(
    store: Any, kind: str, part: Part, messages: list[Any], names: tuple[str, ...]
) -> tuple[NDArray[np.int64], Table] | None:
    """Return how many entries each message has in a part, and their rows."""
    short = _short(kind)
    present = [f for f in part.fields if f in _fields(store, kind)]
    if not present:  # recorded with an older definition
        return None
    if _is_nested(store, kind, present[0]):
        inner = _inner(store, kind, present[0])
        entries = [entry for m in messages for entry in getattr(m, present[0])]
        lengths = np.array([len(getattr(m, present[0])) for m in messages])
        rows: Table = {part.index: _index(lengths)}
        for field, what in flat_fields(store, inner).items():
            cells = [_path(e, field) for e in entries]
            if what == "string[]":
                cells = ["; ".join(texts) for texts in cells]
            elif what.endswith("[]"):
                continue
            values = np.array(cells, dtype=object if what.startswith("string") else None)
            rows[column(_short(inner), field)] = _worded(_short(inner), field, values)
        return (lengths, rows) if entries else None
    columns = {f: [getattr(m, f) for m in messages] for f in present}
    lengths = np.max([[len(cell) for cell in cells] for cells in columns.values()], axis=0)
    if not lengths.sum():
        return None
    index = _index(lengths)
    rows = {part.index: index}
    if part.index == FINGERS and names and index.max() < len(names):
        rows[part.index] = Coded(index.astype(np.int16), names)
    for field, cells in columns.items():
        values = np.concatenate([_filled(c, int(n)) for c, n in zip(cells, lengths, strict=True)])
        rows[column(short, field)] = _worded(short, field, values)
    return lengths, rows


def _filled(cell: Any, n: int) -> NDArray[Any]:
    """Return a sequence with `n` entries: an empty one becomes unknown values."""
    texts = len(cell) > 0 and isinstance(cell[0], str)
    values = np.array(cell, dtype=object if texts else None)
    if values.size == n:
        return values
    return np.concatenate([values.astype(float), np.full(n - values.size, np.nan)])


def _index(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, 2 … anew for every message."""
    total = int(lengths.sum())
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.arange(total) - starts


def _entries(part: Part, n: int, m: int, names: tuple[str, ...]) -> NDArray[Any] | Coded:
    which = np.tile(np.arange(n, dtype=np.int16), m)
    if part.index != FINGERS:
        return which
    return Coded(which, names if len(names) == n else tuple(f"f{i:02d}" for i in range(n)))


def _worded(kind: str, field: str, values: NDArray[Any]) -> NDArray[Any] | Coded:
    """Return numbers that stand for words as these words."""
    words = WORDS.get((kind, field))
    if words is None or values.size == 0 or int(values.max()) >= len(words):
        return values
    return Coded(values.astype(np.int8), words)


def _join_stamps(kind: str, main: Mapping[str, Any]) -> None:
    """Make one column in s of a time within a message."""
    assert isinstance(main, dict)
    for name in [name for name in main if name.endswith("_sec") and not name.endswith("_nanosec")]:
        field = name.removesuffix("_sec")
        nanosec = main.pop(f"{field}_nanosec", None)
        if nanosec is not None:
            main[column(kind, field)] = main.pop(name) + 1e-9 * nanosec


def _fields(store: Any, kind: str) -> list[str]:
    return [str(name) for name, _ in store.fielddefs[kind][1]]


def _is_nested(store: Any, kind: str, field: str) -> bool:
    return bool(_inner(store, kind, field))


def _inner(store: Any, kind: str, field: str) -> str:
    """Return the type of the messages in a sequence; empty for anything else."""
    for name, (node, detail) in store.fielddefs[kind][1]:
        if name == field and int(node) in (3, 4) and int(detail[0][0]) == 2:
            return str(detail[0][1])
    return ""


def _path(message: Any, path: str) -> Any:
    for name in path.split("."):
        message = getattr(message, name)
    return message
