"""The domain of the SpineMat therapy mat: body, mat, control, sensing, dosing and safety rules, free of ROS."""
