"""``pnag doctor``."""

from __future__ import annotations

import dataclasses
import sys

import click

from .. import options
from ..output import answer


@click.command()
@options.as_json
def doctor(as_json: bool) -> None:
    """Check that everything this package uses is there and works.

    \b
    Example:
      pnag doctor
    """  # noqa: D301
    from ...doctor import examine

    checks = examine()
    healthy = not any(check.status == "broken" for check in checks)
    remedies = [f"; {check.remedy}" if check.remedy else "" for check in checks]
    answer(
        {"ok": healthy, "checks": [dataclasses.asdict(check) for check in checks]},
        [
            f"{check.status:<7} {check.subject}: {check.detail}{remedy}"
            for check, remedy in zip(checks, remedies, strict=True)
        ],
        as_json=as_json,
    )
    if not healthy:
        sys.exit(1)
