"""Build the C core (`libnvc._core`, cffi API mode, abi3) and map the commands to `libnvc.cli`."""

from setuptools import find_packages, setup

setup(
    # Computed, because a hand-written list forgets a new subpackage in the wheel only.
    packages=[*find_packages(include=["libnvc", "libnvc.*"]), "libnvc.cli"],
    package_data={"libnvc": ["py.typed", "_core.pyi"]},
    cffi_modules=["csrc/ffi_build.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
