#!/bin/bash
# Runs a command where ROS 2 and, once it is built, SpineMat are known.
set -e
source /opt/ros/jazzy/setup.bash
if [[ -e /opt/spinemat/install/local_setup.bash ]]; then
  source /opt/spinemat/install/local_setup.bash
fi
PATH=/opt/spinemat:$PATH
exec "$@"
