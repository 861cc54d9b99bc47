"""Packaging. The package names are generic, so they are listed one by one rather than found."""

from pathlib import Path

from setuptools import setup

setup(
    name="gig-vad",
    version="0.1.0",
    description="Global Information Guided video anomaly detection: a two-stage offline batch pipeline",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        "cache",
        "pipeline",
        "pipeline.data",
        "pipeline.data.datasets",
        "pipeline.metrics",
        "pipeline.models",
        "pipeline.models.heads",
        "pipeline.stages",
        "tasks",
    ],
    package_data={"pipeline.models": ["weights_data/*.safetensors"]},
    install_requires=[
        "av>=14",
        "click>=8.1",
        "dask[array]>=2024.1",
        "fsspec>=2024.1",
        "google-crc32c>=1.5",
        "h5py>=3.10",
        "luigi>=3.6,<4",
        "matplotlib>=3.8",
        "mmaction2==1.1.0",
        "mmcv-lite==2.0.1",
        "mmengine==0.10.7",
        "numpy>=1.26",
        "pyarrow>=15",
        "pydantic>=2.6,<3",
        "pyyaml>=6",
        "safetensors>=0.4",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "setuptools<82",  # luigi and mmengine still import pkg_resources
        "tensorboard>=2.15",
        "torch>=2.4",
        "tqdm>=4.66",
        "zarr>=3.1,<4",
    ],
    extras_require={
        "s3": ["s3fs>=2024.1"],
        "xarray": ["xarray>=2024.1"],
        "dev": [
            "flask>=3",  # with flask-cors, what moto's server needs; its own extra brings all of AWS
            "flask-cors>=5",
            "import-linter>=2.1",
            "moto[s3]>=5",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "ruff>=0.5",
            "s3fs>=2024.1",
            "xarray>=2024.1",
        ],
    },
    entry_points={"console_scripts": ["gig = pipeline.cli:main"]},
)
