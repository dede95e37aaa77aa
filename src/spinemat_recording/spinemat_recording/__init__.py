"""Node recorder: a rosbag2 (MCAP) of every session, its replay and analysis."""
