"""Recorded bags as NumPy arrays and pandas tables, without ROS.

    from spinemat.analysis import Bag, arrays, table, figures

    bag = Bag("sessions/20260101-101500-p1")     # a session, a rosbag2 folder, or an .mcap file
    bag.seconds, bag.counts, bag.about, bag.problems
    drive = arrays(bag, "drive/state", ["force"])    # {"t": (m,), "force": (m, n)}
    felt = table(bag, "fingers/state", "fingers")    # tidy: one row per finger and time
    figures(bag)                                     # one row of numbers
    export(bag, "out")                               # every table as Parquet or CSV
    analyse(find_bags(["sessions"]))                 # many bags, over all cores
    rerun(bag)                                       # estimators and safety rules again

A bag that is cut short or damaged gives what can be read of it and says the rest in
`Bag.problems`; `BagError` means that nothing can be read. Units are SI; in tables they stand in
the names of the columns. Needs `rosbags`, `zstandard`, `pandas`, and for some parts `pyarrow` and
`dask[distributed]`; each is imported when it is used first.
"""

from spinemat.analysis.bags import Bag, BagError, Channel
from spinemat.analysis.export import export
from spinemat.analysis.figures import compare, compare_levels, figures
from spinemat.analysis.many import analyse, find_bags
from spinemat.analysis.rerun import Rerun, layout_of, rerun
from spinemat.analysis.tables import arrays, blocks, finger_names, table, table_name

__all__ = [
    "Bag",
    "BagError",
    "Channel",
    "Rerun",
    "analyse",
    "arrays",
    "blocks",
    "compare",
    "compare_levels",
    "export",
    "figures",
    "find_bags",
    "finger_names",
    "layout_of",
    "rerun",
    "table",
    "table_name",
]
