"""Build of the ROS package spinemat."""

from setuptools import find_packages, setup

setup(
    name="spinemat",
    version="0.1.0",
    packages=find_packages(include=["spinemat", "spinemat.*"]),
    package_data={"spinemat": ["py.typed", "data/**/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/spinemat"]),
        ("share/spinemat", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="SpineMat maintainers",
    maintainer_email="maintainers@spinemat.invalid",
    description="The domain of SpineMat, free of ROS: body, mat, control, sensing, safety rules.",
    license="Apache-2.0",
)
