"""A simulated mat with a virtual person on it.

ros2 launch spinemat_bringup sim.launch.py patient:=desk_worker_45 rviz:=true
"""

from launch import LaunchDescription

from spinemat_bringup.launching import sim_launch


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` starts."""
    return sim_launch()
