from __future__ import annotations

import pytest

import pnag_fast as pf


@pytest.fixture(scope="module")
def compound():
    """A table fitted to the 243 networks of CompOFA, exact for those."""
    space = pf.spaces.get("compofa-mbv3")
    archs = space.enumerate()
    macs = pf.costs.macs(space)
    return pf.costs.fit(space, archs, macs(archs), metric="macs", unit="MACs", device="any")
