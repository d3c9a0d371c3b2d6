from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import (
    FileFormatError,
    MissingDependencyError,
    UnsupportedSpaceError,
)


@pytest.mark.shared_data
@pytest.mark.parametrize("resolution", [160, 192, 224])
def test_once_for_all_latency_tables(shared_data, resolution):
    path = shared_data / "ofa_latency" / "note10" / f"{resolution}_lookup_table.yaml"
    space = pf.spaces.get("ofa-mbv3", width=1.2, resolutions=(resolution,))
    table = pf.costs.from_ofa_yaml(path, space)
    assert table.device == "note10"
    low, high = table.bounds
    assert 5 < low < high < 200
    # Compound spaces share slots and network, so the table serves them too.
    compound = pf.spaces.get("compofa-mbv3", width=1.2, resolutions=(resolution,))
    assert len(table.for_space(compound)(compound.enumerate())) == 243
    with pytest.raises(FileFormatError, match="has no entry"):
        pf.costs.from_ofa_yaml(path, pf.spaces.get("ofa-mbv3", resolutions=(resolution,)))


@pytest.mark.shared_data
@pytest.mark.parametrize("resolution", [160, 192, 224])
def test_once_for_all_tables_agree_with_looking_up_every_layer(shared_data, read_csv, resolution):
    """Every architecture of the shared files, added up layer by layer as the file is keyed."""
    import yaml

    path = shared_data / "ofa_latency" / "note10" / f"{resolution}_lookup_table.yaml"
    means = {key: entry["mean"] for key, entry in yaml.safe_load(path.read_text()).items()}
    space = pf.spaces.get("ofa-mbv3", width=1.2, resolutions=(resolution,))
    archs = set()
    for name in ("ofa_imagenet/measured_w1.0_r224", "ofa_latency/measured_gpus_ms"):
        archs |= {row["arch"] for row in read_csv(shared_data / f"{name}.csv")}
    archs |= {row["arch"] for row in read_csv(shared_data / "ofa_imagenet" / "pnag_published.csv")}
    assert len(archs) > 5000
    archs = sorted(archs)
    table = pf.costs.from_ofa_yaml(path, space)
    expected = [note10_latency(arch, means, resolution) for arch in archs]
    np.testing.assert_allclose(table(space.from_strings(archs)), expected, rtol=1e-12)


def note10_latency(arch, means, resolution):
    """Latency of a network of width 1.2, written down from the file's keys alone."""
    depths, kernels, ratios = ([int(n) for n in part.split(",")] for part in arch.split(":"))
    size, channels = resolution // 2, 24
    total = means[f"Conv-input:{resolution}x{resolution}x3-output:{size}x{size}x24"]

    def block(out, expand, kernel, stride, skip, se, hs):
        nonlocal size, channels
        after = size // stride
        key = (
            f"expanded_conv-input:{size}x{size}x{channels}-output:{after}x{after}x{out}"
            f"-expand:{expand}-kernel:{kernel}-stride:{stride}-idskip:{skip}-se:{se}-hs:{hs}"
        )
        size, channels = after, out
        return means[key]

    total += block(24, 24, 3, 1, 1, 0, 0)
    stages = [(32, 2, 0, 0), (48, 2, 1, 0), (96, 2, 0, 1), (136, 1, 1, 1), (192, 2, 1, 1)]
    for unit, (out, stride, se, hs) in enumerate(stages):
        for layer in range(depths[unit]):
            slot = 4 * unit + layer
            expand = channels_multiple(channels * ratios[slot])
            first = layer == 0
            total += block(
                out, expand, kernels[slot], stride if first else 1, 0 if first else 1, se, hs
            )
    total += means[f"Conv_1-input:{size}x{size}x192-output:{size}x{size}x1152"]
    total += means[f"AvgPool2D-input:{size}x{size}x1152-output:1x1x1152"]
    total += means["Conv_2-input:1x1x1152-output:1x1x1536"]
    return total + means["Logits-input:1x1x1536-output:1000"]


def channels_multiple(channels):
    """Round to a multiple of 8, and not by more than a tenth down."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def test_spaces_without_layers_have_no_block_tables(cell, tmp_path):
    with pytest.raises(UnsupportedSpaceError):
        pf.costs.from_blocks(cell, lambda b: 1.0, metric="m", unit="u", device="d")
    with pytest.raises(UnsupportedSpaceError):
        pf.costs.from_ofa_yaml(
            tmp_path / "x.yaml", pf.spaces.get("ofa-mbv3", resolutions=(160, 224))
        )


def test_a_table_in_yaml_without_a_reader_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "table.yaml"
    path.write_text("{}")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r"'yaml'.*pnag-fast\[ofa\]"):
        pf.costs.from_ofa_yaml(path, pf.spaces.get("ofa-mbv3"))


def ofa_document(space):
    """Means of every block of a space, under the keys of the Once-for-All tools."""
    from pnag_fast.costs import once_for_all

    document = {}

    def remember(block):
        for key in once_for_all._ofa_keys(block):
            document[key] = {"mean": 1e-5 * (1 + len(document) % 7), "count": 3}
        return 1.0

    pf.costs.from_blocks(space, remember, metric="m", unit="u", device="d")
    return document


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_once_for_all_tables_written_as_json_are_read(tiny, tmp_path, suffix):
    pytest.importorskip("yaml")
    document = ofa_document(tiny)
    text = json.dumps(document, indent=2)
    # What YAML reads as text.
    assert "e-05" in text
    path = tmp_path / f"table.{suffix}"
    path.write_text(text)
    table = pf.costs.from_ofa_yaml(path, tiny, device="x")
    network = tiny.layers(tiny.sample(1, seed=0)[0])
    from pnag_fast.costs import once_for_all

    expected = sum(document[k]["mean"] for b in network for k in once_for_all._ofa_keys(b))
    assert table(tiny.sample(1, seed=0))[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "value",
    ["1" * 400, "-.inf", ".nan", "true", "1:30", "[1]", "{a: 1}", "2001-99-99", "0x1F", "", "~"],
)
def test_means_that_are_no_numbers_are_refused(tiny, tmp_path, value):
    yaml = pytest.importorskip("yaml")
    document = ofa_document(tiny)
    key = next(iter(document))
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(document).replace("mean: 1.0e-05", f"mean: {value}", 1))
    with pytest.raises(FileFormatError, match="should be a finite number"):
        pf.costs.from_ofa_yaml(path, tiny)
    del document[key]["mean"]
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(FileFormatError, match="has no entry"):
        pf.costs.from_ofa_yaml(path, tiny)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: " + "[" * 3000 + "]" * 3000,
        "a: 2001-99-99",
        "a: {mean: 1}\na: {mean: 2}",
        "a: {mean: 1, mean: 2}",
        "- 1",
        "",
        "a: &b [*b]",
        "? [1, 2]\n: 3",
        "\x00",
    ],
)
def test_damaged_once_for_all_tables_are_refused(tiny, tmp_path, text):
    pytest.importorskip("yaml")
    path = tmp_path / "table.yaml"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=r"table\.yaml"):
        pf.costs.from_ofa_yaml(path, tiny)
