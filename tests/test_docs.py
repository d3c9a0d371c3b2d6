"""What the documentation tells to type works, with a small space and a short training."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import pnag_fast as pf
from pnag_fast import cli
from pnag_fast.generator import ExpertSettings

# What the page leaves to its reader: a program that measures, here by a table.
ON_PI5 = """
import sys
import pnag_fast as pf
table = pf.CostTable.load("phone.json")
rows = open(sys.argv[1]).read().splitlines()[1:]
archs = table.space.from_strings([row.rpartition(",")[0].strip('"') for row in rows])
pf.costs.save_measured(sys.argv[1], table.space, archs, 1.1 * table(archs), column="latency_ms")
"""

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)


def run(command):
    runner = CliRunner()
    with runner.isolation() as streams, pytest.raises(SystemExit) as exit_:
        cli.main(shlex.split(command)[1:])
    assert exit_.value.code == 0, (command, streams[1].getvalue().decode())


@pytest.fixture
def devices(tiny, tiny_samples, tiny_table, tmp_path, monkeypatch):
    """A folder with the tables and measurements that the page takes for given."""
    monkeypatch.chdir(tmp_path)
    shorter = functools.partialmethod(ExpertSettings.__init__, evaluations=800, steps=5, hidden=16)
    monkeypatch.setattr(ExpertSettings, "__init__", shorter)
    pf.accuracy.save_table("accuracy.csv", tiny, *tiny_samples)
    macs = pf.costs.macs(tiny)
    scale = tiny_table.bounds[1] / macs.bounds[1]
    gpu = dataclasses.replace(
        macs, metric="latency", unit="ms", device="gpu", constants=scale * macs.constants,
        entries=scale * macs.entries,
    )  # fmt: skip
    phone = dataclasses.replace(tiny_table, device="phone")
    for table in (gpu, phone):
        table.save(f"{table.device}.json")
    Path("on_pi5.py").write_text(ON_PI5)
    shorter = functools.partial(pf.latency.confirm, evaluations=300)
    monkeypatch.setattr(pf.latency, "confirm", shorter)
    return {"gpu": gpu, "phone": phone}


def test_the_page_on_devices(devices, tiny):
    commands = "".join(blocks("devices.md", "sh")).replace("\\\n", " ").splitlines()
    commands = [command for command in commands if command]
    assert len(commands) > 10
    for command in commands:
        run(command.replace("ofa-mbv3", tiny.name).replace("python on", f"{sys.executable} on"))
        if " choose " in command:
            fill_in(shlex.split(command)[-1], devices["phone"])


def fill_in(path, device):
    """Measure the networks of a file."""
    head, *lines = Path(path).read_text().splitlines()
    archs = device.space.from_strings([line.rpartition(",")[0].strip('"') for line in lines])
    values = 1.07 * device(archs)
    values *= 1 + 0.005 * (-1.0) ** np.arange(len(values))
    pf.costs.save_measured(path, device.space, archs, values, column=head.rpartition(",")[2])


def test_the_python_of_the_page_on_devices(devices, tiny, tiny_model):
    names = {"pf": pf, "space": tiny, "model": tiny_model, **devices}
    names["pi5"] = dataclasses.replace(devices["phone"], device="pi5")
    code = "".join(blocks("devices.md", "python")).replace("seconds=1.0", "evaluations=200")
    code = code.replace("20.0", "50.0").replace("30.0", "60.0")
    exec(code, names)
    assert [table.device for table in names["fleet"].devices] == ["phone", "gpu", "pi5"]


# What the page leaves to its reader: a training, which writes down that it was asked.
TRAINING = """
def train_and_test(arch):
    with open("trained.txt", "a") as stream:
        stream.write(f"{arch.tolist()}\\n")
    return float((arch == 4).mean())
"""


@pytest.fixture
def judging(cell, tmp_path, monkeypatch):
    """A folder with the files of the page on searches, of fewer questions; returns its blocks."""
    monkeypatch.chdir(tmp_path)
    found = blocks("search.md", "python")
    judging, front, dask = (
        next(block for block in found if start in block)
        for start in ("# judging.py", "# front.py", "import Client")
    )
    Path("judging.py").write_text(judging + TRAINING)
    macs = pf.costs.macs(cell)
    dataclasses.replace(macs, metric="latency", unit="ms", device="phone").save("phone.json")
    return front.replace("=300", "=40").replace("Executor(4)", "Executor(2)"), dask


def test_a_function_and_a_table_are_enough_with_processes(judging):
    front, _ = judging
    # Processes that are spawned have nothing of this one: what they need, they import.
    spawned = front.replace(
        "    space =",
        "    import multiprocessing; multiprocessing.set_start_method('spawn')\n    space =",
    )
    said = []
    # Forked ones have all of it: also the files that were open when the pool was filled.
    forked = spawned.replace("'spawn'", "'fork'")
    for program in (spawned, forked):
        Path("front.py").write_text(program)
        for made in ("trained.txt", "asked.jsonl"):
            Path(made).unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "front.py"], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
        trained = Path("trained.txt").read_text().splitlines()
        assert len(trained) == len(set(trained)) == 40
    assert said[0] == said[1]
    assert "latency in ms on phone" in said[0]


def test_a_function_and_a_table_are_enough_with_dask(judging, cell, monkeypatch):
    distributed = pytest.importorskip(
        "distributed", reason="Dask is not installed: pip install distributed"
    )
    front, dask = judging
    monkeypatch.syspath_prepend(os.getcwd())
    names = {"__name__": "page"}
    exec(front, names)  # what it imports
    names |= {"space": cell, "table": pf.CostTable.load("phone.json")}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        names["cluster"] = cluster
        code = dask.replace('"scheduler:8786"', "cluster").replace("=300", "=40")
        try:
            exec(code, names)
        finally:
            names["client"].close()
            del sys.modules["judging"]
    alone = pf.search.active(
        cell,
        pf.accuracy.oracle(cell, names["judge"]),
        [names["table"]],
        evaluations=40,
        batch=16,
    )
    np.testing.assert_array_equal(names["front"].archs, alone.archs)
    assert names["front"].evaluations == 40
