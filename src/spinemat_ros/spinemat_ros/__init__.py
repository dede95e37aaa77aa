"""What every node needs from ROS: topics with their QoS, messages as arrays, the executor.

It holds no behaviour of the mat; that lives in `spinemat`, which knows no ROS.
"""
