"""Many bags at once, over the cores of this machine or a cluster: `analyse`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinemat.analysis.bags import BagError
from spinemat.analysis.figures import figures

if TYPE_CHECKING:
    import pandas as pd


ANSWER = "10s"  # in which a scheduler must answer (engineering choice)
COPIES = (".cut", ".work", "_report")  # endings of folders in which a recording is once more


def find_bags(places: Iterable[str | Path]) -> list[Path]:
    """Return the sessions and bags in some folders, each named once, sorted.

    A place may be a bag, a session's folder, or a folder with any number of them at any depth.

    Raises:
        BagError: a place does not exist.
    """
    found: set[Path] = set()
    for place in map(Path, places):
        if not place.exists():
            raise BagError(place, "there is no such file or folder")
        if place.is_file():
            found.add(place)
            continue
        for file in [*place.rglob("*.mcap"), *place.rglob("*.db3")]:
            folder = file.parent
            if any(part.endswith(COPIES) for part in folder.relative_to(place).parts):
                continue
            if folder.name == "bag" and folder != place:
                folder = folder.parent
            elif not (folder / "metadata.yaml").is_file() and not folder.name.startswith("bag"):
                folder = file  # lies among other things
            found.add(folder)
    return sorted(found)


def analyse(
    paths: Iterable[str | Path],
    *,
    what: Callable[[str], dict[str, Any]] = figures,
    address: str | None = None,
    jobs: int | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> pd.DataFrame:
    """Apply `what` to many bags and return one row per bag, in the order of `paths`.

    A bag that cannot be read gives a row with its path and the reason in `error`; the others are
    not disturbed.

    Args:
        paths: bags.
        what: takes a path and returns a row; must be importable where it runs.
        address: of a Dask scheduler, such as ``tcp://host:8786``; None: processes on this machine.
        jobs: processes on this machine; None: one per core; 1: this process alone, without Dask.
        progress: told how many bags are done, and of how many.

    Raises:
        OSError: the scheduler at `address` cannot be reached.
    """
    import pandas as pd

    wanted = [str(Path(path).resolve()) for path in paths]
    rows: dict[int, dict[str, Any]] = {}
    progress(0, len(wanted))
    if jobs == 1 and address is None:
        for i, path in enumerate(wanted):
            rows[i] = row(what, path)
            progress(len(rows), len(wanted))
    else:
        import distributed

        untyped: Any = distributed

        with _client(address, jobs) as client:
            futures = {
                client.submit(row, what, path, pure=False): i for i, path in enumerate(wanted)
            }
            for future in untyped.as_completed(futures):
                i = futures[future]
                try:
                    rows[i] = future.result()
                except Exception as error:  # the process that worked on it died
                    rows[i] = {"bag": wanted[i], "error": f"{wanted[i]}: {error}"}
                progress(len(rows), len(wanted))
    return pd.DataFrame([rows[i] for i in sorted(rows)])


def row(what: Callable[[str], dict[str, Any]], path: str) -> dict[str, Any]:
    """Return the row of one bag; what goes wrong is in it."""
    try:
        return {"bag": path, **what(path), "error": ""}
    except BagError as error:
        return {"bag": path, "error": str(error)}
    except Exception as error:  # damaged bytes surface as any error
        return {"bag": path, "error": f"{path}: {type(error).__name__}: {error}"}


@contextmanager
def _client(address: str | None, jobs: int | None) -> Iterator[Any]:
    import dask
    import distributed

    untyped: Any = distributed

    # processes that share two cores must not each open threads for every core
    single = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    settings = {
        "distributed.worker.daemon": True,
        "distributed.nanny.pre-spawn-environ": single,
        "distributed.scheduler.work-stealing": False,
        # what watches the workers shares their cores
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.gil.enabled": False,
        # what both need is imported once
        "distributed.worker.multiprocessing-method": "forkserver",
        "distributed.comm.timeouts.connect": ANSWER,
        "logging.distributed": "error",
    }
    with dask.config.set(settings):
        if address is not None:
            with untyped.Client(address, timeout=ANSWER) as client:
                yield client
            return
        with (
            untyped.LocalCluster(
                n_workers=jobs or os.cpu_count() or 1,
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",  # any free port, of this machine alone
                host="127.0.0.1",
            ) as cluster,
            untyped.Client(cluster) as client,
        ):
            yield client
