"""The domain of the SpineMat therapy mat, without ROS.

Body, mat, control, sensing, dosing and safety rules as plain functions and small classes over
arrays with one entry per finger, so that the same code runs inside the nodes, inside a replay and
inside a simulation.
"""

__version__ = "0.1.0"
