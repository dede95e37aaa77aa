"""Load along the back compared with real supine pressure maps.

The maps (`data/README.md`) are nine recordings of one man of 1.90 m and 96 kg on a sensor sheet
over a mattress. Their counts tell the distribution of load along the body, not newtons, and the
files do not give the pitch of the sheet's rows. It is derived here: the loaded rows reach from the
back of the head to the heels, which is the stature less the two rounded ends.

The load of each region of the model is its mass fraction. The lengths over which the regions lie
(`trunk.RIBS` and its neighbours, plain shapes and round numbers) were chosen with these maps in
view, so the correlation says that the model is plausible, not that it was predicted.

The maps are compared after scaling lengths by stature, with the peaks of the pelvis laid on each
other and the remaining shift within 30 mm that fits best. The range is from the top of the
shoulders (T1) to the lower end of the pelvis, because the model has no arms and no legs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from spinemat_sim.contour import buttock_x
from spinemat_sim.patient import Patient
from spinemat_sim.patient_file import parse_patient
from spinemat_sim.person import Person
from spinemat_sim.plant import Plant, spread_load
from spinemat_sim.population import nearest_row, survey

Array = NDArray[np.float64]

ROWS, COLUMNS = 64, 27
MAP_STATURE, MAP_MASS = 1.90, 96.0  # m, kg, of the man in the maps
ROUNDED_ENDS = 0.05  # m of stature above the head's and below the heels' contact (choice)
LOADED = 0.05  # of the median row: a row with less is not loaded (choice)
MAX_SHIFT = 0.030  # m
METHOD = (
    "nine recordings of one man (1.90 m, 96 kg) on a mattress, lengths scaled by stature, pelvis"
    " peaks aligned, best shift within 30 mm, shoulders to pelvis; lengths over which the model's"
    " regions lie were chosen with these maps in view"
)
SLICE = 0.020  # m, slices of the comparison (choice)
PELVIS_SEARCH = (0.40, 0.65)  # share of the body from the head where the pelvis peak is sought


@dataclass(frozen=True)
class LoadComparison:
    """Load along the back of a plant and of the maps, at the same places of the body.

    Attributes:
        x: middles of slices along the mat, shape (k,), m.
        model: share of the load in each slice, sums to 1.
        maps: the same of the mean of the recordings, scaled to this person's stature.
        recordings: the same of each recording, shape (9, k).
        correlation: of `model` and `maps`.
        ceiling: correlation of each recording with the mean of the others, shape (9,).
        shift: m, movement of the maps along x after laying the pelvis peaks on each other.
        row_pitch: m, of the sensor sheet.
    """

    x: Array
    model: Array
    maps: Array
    recordings: Array
    correlation: float
    ceiling: Array
    shift: float
    row_pitch: float


@lru_cache(maxsize=1)
def recordings() -> Array:
    """Load profiles of all recordings: mean of the snapshots, summed across, shape (9, 64)."""
    folder = resources.files("spinemat_sim").joinpath("data/popu_supine")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".json")), key=lambda f: f.name)
    profiles = []
    for file in files:
        snapshots = json.loads(file.read_text("utf-8"))["snapshots"]
        maps = np.asarray(snapshots, dtype=float).reshape(-1, ROWS, COLUMNS)
        profiles.append(maps.mean(axis=0).sum(axis=1))
    return np.array(profiles)


def row_pitch(profile: Array) -> float:
    """Distance of the sheet's rows from the extent of the loaded ones, m."""
    loaded = np.flatnonzero(profile > LOADED * np.median(profile))
    return (MAP_STATURE - ROUNDED_ENDS) / float(loaded[-1] - loaded[0] + 1)


def man_in_the_maps() -> Patient:
    """The survey's man closest to the one in the maps, with mean curvature and stiffness."""
    row = nearest_row(MAP_STATURE, MAP_MASS, "male")
    data = survey()[row]
    return parse_patient(
        {
            "version": 1,
            "name": "man in the maps",
            "sentence": f"row {row} of the survey, closest to 1.90 m and 96 kg",
            "sex": "male",
            "age": float(data["age_years"]),
            "stature": 1e-3 * float(data["stature_mm"]),
            "mass": 0.1 * float(data["weight_hg"]),
            "row": row,
        }
    )


def compare(plant: Plant) -> LoadComparison:
    """Compare a resting plant with the maps.

    The plant should lie still with its fingers retracted; the load of fingers counts as well.
    """
    person = plant.person
    x, padding, fingers = plant.load_along_back()
    low, high = buttock_x(person) - 0.11, person.x_of("T1")
    keep = (x >= low) & (x <= high)
    x, model = x[keep], (padding + fingers)[keep]
    peak_model = _peak(x, model, buttock_x(person))

    profiles = recordings()
    mean = profiles.mean(axis=0)
    pitch = row_pitch(mean)
    places, width = _places(mean, pitch, person)
    edges = np.append(x - 0.5 * SLICE, x[-1] + 0.5 * SLICE)

    def at(profile: Array, shift: float) -> Array:
        load = spread_load(edges, places + peak_model + shift, np.full(ROWS, width), profile)
        return load / load.sum()

    shifts = np.arange(-MAX_SHIFT, MAX_SHIFT + 1e-9, 0.002)
    fits = [np.corrcoef(model, at(mean, s))[0, 1] for s in shifts]
    best = int(np.argmax(fits))
    moved = np.array([at(p, float(shifts[best])) for p in profiles])
    others = [np.delete(moved, i, axis=0).mean(axis=0) for i in range(len(moved))]
    return LoadComparison(
        x=x,
        model=model / model.sum(),
        maps=at(mean, float(shifts[best])),
        recordings=moved,
        correlation=float(fits[best]),
        ceiling=np.array([np.corrcoef(m, o)[0, 1] for m, o in zip(moved, others, strict=True)]),
        shift=float(shifts[best]),
        row_pitch=pitch,
    )


def _places(mean: Array, pitch: float, person: Person) -> tuple[Array, float]:
    """Rows of the sheet toward the head from the pelvis peak, and their width, m."""
    low, high = (round(share * ROWS) for share in PELVIS_SEARCH)
    rows = np.arange(ROWS, dtype=float)
    peak = rows[low:high] @ mean[low:high] ** 4 / np.sum(mean[low:high] ** 4)
    scale = pitch * person.patient.stature / MAP_STATURE
    return (peak - rows) * scale, scale


def _peak(x: Array, load: Array, near: float) -> float:
    close = np.abs(x - near) < 0.12
    return float(x[close] @ load[close] ** 4 / np.sum(load[close] ** 4))
