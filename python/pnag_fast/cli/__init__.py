"""The ``pnag`` command: a thin layer that reads options, calls the library and prints.

Every command is a file in the folder ``commands``; what several of them share is in `options`,
`output`, `keeping` and `failures`. Exit code 0 is success, 1 a failure (one line on standard error
says what and what to do), 2 bad usage, 130 an interruption. With ``--json`` standard output is one
JSON document and nothing else, on failure one with ``error``, ``message`` and ``remedy``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

import click

from .. import __version__
from ..terminal import finish
from .commands import CommandFiles
from .keeping import Keeper


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit; this is the entry point of ``pnag``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    keeper = Keeper()
    try:
        code = pnag.main(args=given, prog_name="pnag", standalone_mode=False, obj=keeper)
        finish()
    except (Exception, KeyboardInterrupt) as error:
        from . import failures

        if arguments is None:
            failures.defer_interrupts()
        # Not from the parsed options: they may be what is wrong.
        code = failures.tell(error, keeper, as_json="--json" in given)
        with contextlib.suppress(Exception):
            finish()
        if arguments is None and code == failures.INTERRUPTED:
            # Files are closed and children ended on the way here; taking torch apart would keep
            # whoever pressed Ctrl-C waiting for most of a second.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)
    sys.exit(code if isinstance(code, int) else 0)


@click.group(
    commands=CommandFiles(f"{__name__}.commands"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="pnag")
def pnag() -> None:
    """Find the network to deploy under any budget.

    Start with:  pnag quickstart --out quickstart
    """
