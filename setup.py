"""What is compiled of mediasql: the loadable extension, where there is a C compiler. The rest is in pyproject.toml."""

import importlib.util
import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

FOLDER = "mediasql/sql/loadable"

spec = importlib.util.spec_from_file_location("build", f"{FOLDER}/build.py")
loadable = importlib.util.module_from_spec(spec)
spec.loader.exec_module(loadable)


class BuildLoadable(build_ext):
    def build_extension(self, extension):
        try:
            loadable.build(loadable.Path(self.get_ext_fullpath(extension.name)).resolve())
        except loadable.BuildError as error:
            raise CompileError(str(error)) from None

    def get_ext_filename(self, name):
        """SQLite looks for it without the ending that tells versions of Python apart, and it works in all of them."""
        return os.path.join(*name.split(".")[:-1], loadable.NAME)


setup(
    ext_modules=[
        Extension(
            "mediasql.sql.loadable.mediasql",
            [f"{FOLDER}/{name}" for name in loadable.SOURCES],
            depends=[f"{FOLDER}/{name}" for name in loadable.HEADERS],
            optional=True,  # without a compiler, mediasql is installed without it
        )
    ],
    cmdclass={"build_ext": BuildLoadable},
)
