"""Build of the ROS package spinemat_actuation."""

from setuptools import find_packages, setup

setup(
    name="spinemat_actuation",
    version="0.1.0",
    packages=find_packages(include=["spinemat_actuation", "spinemat_actuation.*"]),
    package_data={"spinemat_actuation": ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/spinemat_actuation"]),
        ("share/spinemat_actuation", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="SpineMat maintainers",
    maintainer_email="maintainers@spinemat.invalid",
    description="Node finger_actuation: the fingers of the mat under force control.",
    license="Apache-2.0",
    entry_points={"console_scripts": ["finger_actuation = spinemat_actuation.node:main"]},
)
