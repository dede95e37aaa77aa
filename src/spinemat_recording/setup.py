"""Build of the ROS package spinemat_recording."""

from setuptools import find_packages, setup

setup(
    name="spinemat_recording",
    version="0.1.0",
    packages=find_packages(include=["spinemat_recording", "spinemat_recording.*"]),
    package_data={"spinemat_recording": ["py.typed", "templates/**/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/spinemat_recording"]),
        ("share/spinemat_recording", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="SpineMat maintainers",
    maintainer_email="maintainers@spinemat.invalid",
    description="Node recorder: a rosbag2 (MCAP) of every session, its replay and analysis.",
    license="Apache-2.0",
    entry_points={"console_scripts": ["recorder = spinemat_recording.node:main"]},
)
