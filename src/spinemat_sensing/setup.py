"""Build of the ROS package spinemat_sensing."""

from setuptools import find_packages, setup

setup(
    name="spinemat_sensing",
    version="0.1.0",
    packages=find_packages(include=["spinemat_sensing", "spinemat_sensing.*"]),
    package_data={"spinemat_sensing": ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/spinemat_sensing"]),
        ("share/spinemat_sensing", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="SpineMat maintainers",
    maintainer_email="maintainers@spinemat.invalid",
    description="Node spine_contour: contact scan, contour, stiffness, breathing and guarding.",
    license="Apache-2.0",
    entry_points={"console_scripts": ["spine_contour = spinemat_sensing.node:main"]},
)
