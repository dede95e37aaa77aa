"""Build of the ROS package spinemat_safety."""

from setuptools import find_packages, setup

setup(
    name="spinemat_safety",
    version="0.1.0",
    packages=find_packages(include=["spinemat_safety", "spinemat_safety.*"]),
    package_data={"spinemat_safety": ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/spinemat_safety"]),
        ("share/spinemat_safety", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="SpineMat maintainers",
    maintainer_email="maintainers@spinemat.invalid",
    description="Node safety_supervisor: grants or withdraws the permit to move.",
    license="Apache-2.0",
    entry_points={"console_scripts": ["safety_supervisor = spinemat_safety.node:main"]},
)
