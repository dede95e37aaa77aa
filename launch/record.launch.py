"""The recorder alone, for a mat that runs with `record:=none`.

ros2 launch spinemat_bringup record.launch.py namespace:=/mat
"""

from launch import LaunchDescription

from spinemat_bringup.launching import record_launch


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` starts."""
    return record_launch()
