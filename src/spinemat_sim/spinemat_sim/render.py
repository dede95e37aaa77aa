"""A picture of the mat and the person on it, rendered off-screen in a process of its own.

Which OpenGL library MuJoCo loads is settled when it is imported, and a missing one can end the
process; so a child renders, first with EGL, then with OSMesa.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput
from spinemat_sim.figure import build_figure
from spinemat_sim.plant import Plant

BACKENDS = ("egl", "osmesa")
TIMEOUT = 120.0  # s for one picture; software rendering is slow
LOOK_AT = (0.16, 0.0, -0.01)  # m
DISTANCE, AZIMUTH, ELEVATION = 1.38, 74.0, -15.0  # m, degrees


class NoOpenGL(RuntimeError):
    """No off-screen OpenGL works here; the message says what to install."""


def render(
    plant: Plant, urdf: str, path: str | Path, width: int = 1280, height: int = 720
) -> None:
    """Render a plant as it is now into a PNG file.

    Args:
        plant: `plant.Plant`.
        urdf: the mat's description with its shapes (`urdf.expand_urdf`).
        path: of the picture.
        width, height: pixels, up to 3840 x 2160.

    Raises:
        InvalidInput: width or height out of range.
        NoOpenGL: neither EGL nor OSMesa works on this machine.
    """
    for field, value, most in (("width", width, 3840), ("height", height, 2160)):
        if not isinstance(value, int) or not 64 <= value <= most:
            raise InvalidInput(field, value, f"64 to {most} pixels")
    model = build_figure(plant, urdf).compile()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figure.mjb"
        mujoco.mj_saveModel(model, str(file), None)
        np.save(Path(folder) / "qpos.npy", plant.position)
        reasons = []
        for backend in BACKENDS:
            reason = _child(Path(folder), Path(path), backend, width, height)
            if not reason:
                return
            reasons.append(f"{backend}: {reason}")
    raise NoOpenGL(
        "no off-screen OpenGL for a picture; on Debian and Ubuntu install it with"
        " apt-get install libegl1 libgl1-mesa-dri (or libosmesa6)"
        f" [{'; '.join(reasons)}]"
    )


def _child(folder: Path, path: Path, backend: str, width: int, height: int) -> str:
    """Render in a child process; return why it failed, or nothing."""
    env = os.environ | {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    where = [str(Path(__file__).resolve().parents[1]), env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(p for p in (*where, *sys.path) if p)
    command = [sys.executable, "-m", "spinemat_sim.render", str(folder), str(path)]
    try:
        done = subprocess.run(
            [*command, str(width), str(height)],
            env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no picture within {TIMEOUT:.0f} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"ended with {done.returncode}"


def _draw(folder: Path, width: int, height: int) -> NDArray[np.uint8]:
    """Render the model of a folder, shape (height, width, 3)."""
    model = mujoco.MjModel.from_binary_path(str(folder / "figure.mjb"))
    data = mujoco.MjData(model)
    position = np.load(folder / "qpos.npy")
    data.qpos[: len(position)] = position
    mujoco.mj_forward(model, data)
    camera = mujoco.MjvCamera()
    camera.lookat[:] = LOOK_AT
    camera.distance, camera.azimuth, camera.elevation = DISTANCE, AZIMUTH, ELEVATION
    renderer = mujoco.Renderer(model, height, width)
    renderer.update_scene(data, camera)
    return np.asarray(renderer.render())


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write RGB pixels, shape (height, width, 3), as a PNG file."""
    height, width, _ = pixels.shape
    rows = pixels.reshape(height, -1).astype(np.int16)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.empty((height, 1 + rows.shape[1]), dtype=np.uint8)
    filtered[:, 0] = 2  # filter "up": each row as the difference to the row above
    filtered[:, 1:] = (rows - above) % 256

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(filtered.tobytes(), 9)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body)
    path.write_bytes(png + chunk(b"IEND", b""))


if __name__ == "__main__":
    write_png(Path(sys.argv[2]), _draw(Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])))
