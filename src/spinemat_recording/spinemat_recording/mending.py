"""Bags that were cut short, as whole ones that every tool reads: `mend`."""

from __future__ import annotations

import shutil
from pathlib import Path

from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from spinemat.analysis.bags import Bag, Channel
from spinemat.errors import InvalidInput
from spinemat_recording.bag import BagTopic, Definitions, SessionFolder


class _Recorded(Definitions):
    """Definitions as a bag carries them."""

    def __init__(self, bag: Bag) -> None:
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._cache: dict[str, tuple[str, str]] = {}
        for channel in bag.topics.values():
            if channel.definition:
                found = get_types_from_msg(channel.definition, channel.type)
                new = {k: v for k, v in found.items() if k not in self._store.fielddefs}
                self._store.register(new)
                digest = self._store.hash_rihs01(channel.type)
                self._cache[channel.type] = channel.definition, digest
        self._texts = {}


def mend(bag: Bag, folder: str | Path | None = None) -> tuple[Path, int]:
    """Write what can be read of a bag as a whole bag.

    Args:
        bag: the recording.
        folder: of the new bag; None: in the place of the old one, which is kept beside it as
            ``<name>.cut``.

    Returns:
        The new bag's folder and its messages.

    Raises:
        InvalidInput: there is something in that place already.
        OSError: it cannot be written.
    """
    old = bag.path if bag.path.is_dir() else bag.path.parent
    name = old.name if bag.path.is_dir() else bag.path.stem
    target = Path(folder) if folder else old.with_name(f"{name}.mended")
    work = target.with_name(f"{target.name}.work")  # stays of a try that was killed
    for path in (target, work, *([] if folder else [old.with_name(f"{name}.cut")])):
        if path.exists():
            raise InvalidInput("folder", str(path), "a place where nothing is")
    try:
        writer = SessionFolder(work, _Recorded(bag), about=dict(bag.about))
        topics: dict[str, BagTopic] = {}
        for channel, time, raw in bag.messages():
            if channel.name not in topics:
                topics[channel.name] = _topic(channel)
            writer.write(topics[channel.name], time, raw)
        writer.close()
        writer.close_lines()
        if writer.failure:
            raise OSError(writer.failure)
        if not folder and bag.path.is_dir():
            old.rename(old.with_name(f"{name}.cut"))
            target = old
        writer.bag_path.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target, writer.messages


def _topic(channel: Channel) -> BagTopic:
    try:
        offered = list(parse_qos(channel.qos)) if channel.qos else []
    except Exception:  # a profile in words of another version
        offered = []
    return BagTopic(
        name=channel.name,
        type=channel.type,
        depth=max([q.depth for q in offered] or [10]),
        latched=any(q.durability == QosDurability.TRANSIENT_LOCAL for q in offered),
        best_effort=any(q.reliability == QosReliability.BEST_EFFORT for q in offered),
    )
