"""The domain of SpineMat, free of ROS: body, mat, control, sensing, safety rules."""
