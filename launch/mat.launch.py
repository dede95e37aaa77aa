"""The nodes of a mat alone: they wait, still, until a drive stage speaks.

ros2 launch spinemat_bringup mat.launch.py --show-args
"""

from launch import LaunchDescription

from spinemat_bringup.launching import mat_launch


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` starts."""
    return mat_launch()
