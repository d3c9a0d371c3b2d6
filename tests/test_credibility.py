from __future__ import annotations

import dataclasses

from pnag_fast import credibility


def test_of_several_devices_each_doubt_names_its_own(tiny_generator, tiny_table):
    steady = dataclasses.replace(tiny_table, device="steady")
    poor = dataclasses.replace(
        tiny_table, device="pi5", provenance={"warnings": ["measure again"], "held_out": {"r2": 0}}
    )
    fleet = dataclasses.replace(tiny_generator, devices=(steady, poor), tables=(steady,))
    doubts = credibility.of_generator(fleet)
    assert "latency in ms on pi5: measure again" in doubts
    assert sum("The cost table of 'pi5' explains too little" in doubt for doubt in doubts) == 1
    assert not any("steady" in doubt for doubt in doubts)
    alone = dataclasses.replace(tiny_generator, tables=(poor,))
    assert "measure again" in credibility.of_generator(alone)
