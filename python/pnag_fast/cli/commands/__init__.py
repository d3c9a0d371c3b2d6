"""The commands: ``generate.py`` in this folder is ``pnag generate``, and nothing lists it.

A file holds one command, under the file's own name; where that is a word of Python, as in
``import_.py``, an underscore follows. A folder is a group, and the files in it are its commands.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping

import click


class CommandFiles(Mapping[str, click.Command]):
    """The commands in the files of a package; a file is imported when its command is asked for.

    Parameters
    ----------
    package : str
        Its full name.
    """

    def __init__(self, package: str) -> None:
        self._package = package

    @functools.cached_property
    def _files(self) -> dict[str, str]:
        path = importlib.import_module(self._package).__path__
        files = (module.name for module in pkgutil.iter_modules(path))
        return {file.rstrip("_").replace("_", "-"): file for file in files}

    def __getitem__(self, name: str) -> click.Command:
        file = self._files[name]
        command: click.Command = getattr(importlib.import_module(f"{self._package}.{file}"), file)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
