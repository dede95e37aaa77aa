"""Build of the ROS package spinemat_sim."""

from setuptools import find_packages, setup

setup(
    name="spinemat_sim",
    version="0.1.0",
    packages=find_packages(include=["spinemat_sim", "spinemat_sim.*"]),
    package_data={"spinemat_sim": ["py.typed", "data/**/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/spinemat_sim"]),
        ("share/spinemat_sim", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="SpineMat maintainers",
    maintainer_email="maintainers@spinemat.invalid",
    description="Node mat_simulator: a MuJoCo plant with virtual patients.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "mat_simulator = spinemat_sim.node:main",
            "gazebo_adapter = spinemat_sim.gazebo_adapter:main",
            "gazebo_world = spinemat_sim.gazebo_world:main",
            "dart_engine = spinemat_sim.dart_engine:main",
        ]
    },
)
