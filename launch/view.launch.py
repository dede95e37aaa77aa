"""A running mat in RViz.

ros2 launch spinemat_bringup view.launch.py namespace:=/mat
"""

from launch import LaunchDescription

from spinemat_bringup.launching import view_launch


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` starts."""
    return view_launch()
