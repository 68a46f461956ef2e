"""Builds the extension module fastclip._C from csrc/ with CMake and ninja."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class CMakeBuild(build_ext):
    """Runs CMake; CMAKE_ARGS in the environment is passed on (see "Build options" in README.md)."""

    def build_extension(self, ext: Extension) -> None:
        source = Path(__file__).parent.resolve() / "csrc"
        target = Path(self.get_ext_fullpath(ext.name)).parent.resolve()
        build = Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        cmake = shutil.which("cmake")
        ninja = shutil.which("ninja")
        if cmake is None or ninja is None:
            raise RuntimeError("fastclip needs cmake and ninja to build: pip install cmake ninja")
        configure = [
            cmake,
            "--fresh",  # options of an earlier build, a sanitizer or compiler, must not stay
            f"-S{source}",
            f"-B{build}",
            "-GNinja",
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        subprocess.run(configure, check=True)
        subprocess.run([cmake, "--build", str(build)], check=True)
        subprocess.run([cmake, "--install", str(build), "--prefix", str(target)], check=True)


setup(ext_modules=[Extension("fastclip._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
