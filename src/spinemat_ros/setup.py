"""Build of the ROS package spinemat_ros."""

from setuptools import find_packages, setup

setup(
    name="spinemat_ros",
    version="0.1.0",
    packages=find_packages(include=["spinemat_ros", "spinemat_ros.*"]),
    package_data={"spinemat_ros": ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/spinemat_ros"]),
        ("share/spinemat_ros", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="SpineMat maintainers",
    maintainer_email="maintainers@spinemat.invalid",
    description="What all nodes share with ROS: topics and QoS, messages as arrays, executor.",
    license="Apache-2.0",
)
