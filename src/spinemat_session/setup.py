"""Build of the ROS package spinemat_session."""

from setuptools import find_packages, setup

setup(
    name="spinemat_session",
    version="0.1.0",
    packages=find_packages(include=["spinemat_session", "spinemat_session.*"]),
    package_data={"spinemat_session": ["py.typed", "record/migrations/**/*.py"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/spinemat_session"]),
        ("share/spinemat_session", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="SpineMat maintainers",
    maintainer_email="maintainers@spinemat.invalid",
    description="Node session_orchestrator: intake, plan, treatment, report.",
    license="Apache-2.0",
    entry_points={"console_scripts": ["session_orchestrator = spinemat_session.node:main"]},
)
