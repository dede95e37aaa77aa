"""Bags as files that every tool for tables reads: `export`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinemat.analysis.bags import Bag
from spinemat.analysis.tables import Coded, Table, blocks, table_name
from spinemat.errors import choice

FORMATS = ("parquet", "csv")
AHEAD = 6  # blocks that may wait to be written


def export(
    bag: Bag,
    folder: str | Path,
    file_format: str = "parquet",
    topics: Collection[str] | None = None,
    progress: Callable[[float], object] = lambda share: None,
) -> dict[Path, int]:
    """Write every table of a bag into a file of its own; see `tables`.

    Args:
        bag: the recording.
        folder: where the files go; made when it is missing, files of the same name are replaced.
        file_format: ``parquet`` or ``csv``.
        topics: relative names; None: all.
        progress: told the share that is done, in [0, 1].

    Returns:
        Rows of each file.

    Raises:
        InvalidInput: another format.
        OSError: a file cannot be written.
    """
    choice("format", file_format, FORMATS)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, _File] = {}
    waiting: list[Future[None]] = []
    total = max(sum(n for t, n in bag.counts.items() if _wanted(bag, t, topics)), 1)
    done = 0
    with ThreadPoolExecutor(max_workers=2) as pool:  # compressing leaves Python's lock free
        try:
            for topic, found in blocks(bag, topics):
                for part, rows in found.items():
                    name = table_name(topic, part)
                    if name not in files:
                        files[name] = _File(folder / f"{name}.{file_format}")
                    waiting.append(files[name].later(pool, rows))
                done += len(np.asarray(found.get("", {}).get("t_s", ())))
                progress(min(done / total, 1.0))
                while len(waiting) > AHEAD:
                    waiting.pop(0).result()
            for left in waiting:
                left.result()
        finally:
            for file in files.values():
                file.close()
    progress(1.0)
    return {file.path: file.rows for file in files.values()}


def _wanted(bag: Bag, name: str, topics: Collection[str] | None) -> bool:
    return topics is None or bag.relative(name) in topics


class _File:
    """One table on its way to the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._writer: Any = None
        self._schema: Any = None
        self._before: Future[None] | None = None

    def later(self, pool: ThreadPoolExecutor, rows: Table) -> Future[None]:
        """Write rows in the background, after those that came before."""
        before = self._before
        self._before = pool.submit(self._write, rows, before)
        return self._before

    def _write(self, rows: Table, before: Future[None] | None) -> None:
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet

        data = pa.table({name: _arrow(values) for name, values in rows.items()})
        if before is not None:
            before.result()
        if self._writer is None and self.path.suffix == ".csv":
            self._writer = pa.csv.CSVWriter(self.path, data.schema)
        elif self._writer is None:
            kinds = pa.types
            words = [f.name for f in data.schema if kinds.is_dictionary(f.type)]
            self._writer = pa.parquet.ParquetWriter(
                self.path,
                data.schema,
                compression="snappy",
                use_dictionary=words + [f.name for f in data.schema if kinds.is_string(f.type)],
                write_statistics=False,
            )
        if self._schema is None:
            self._schema = data.schema
        self._writer.write_table(data.cast(self._schema))
        self.rows += data.num_rows

    def close(self) -> None:
        """End the file."""
        if self._before is not None:
            self._before.exception()
        if self._writer is not None:
            self._writer.close()


def _arrow(values: NDArray[Any] | Coded) -> Any:
    import pyarrow as pa

    if isinstance(values, Coded):
        return pa.DictionaryArray.from_arrays(values.codes, list(values.words))
    if values.dtype == object:
        return pa.array(values.tolist(), type=pa.string())
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return pa.array(np.ascontiguousarray(native))
