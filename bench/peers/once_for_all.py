"""`EvolutionFinder` of the package `ofa` (Once-for-All), with its own encoding and table look-up.

Install it anywhere, without what it depends on, and put that folder on PYTHONPATH:

    pip install --no-deps --target peers ofa
"""

from __future__ import annotations

import importlib.util
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Found:
    """The best architecture of one run, as Once-for-All writes it, and what it cost."""

    arch: dict[str, list[int]]
    top1: float
    latency_ms: float
    evaluations: int


def available() -> bool:
    """Whether the package is installed and torch is there."""
    return _folder() is not None and importlib.util.find_spec("torch") is not None


def _folder() -> Path | None:
    # Not find_spec("ofa.tutorial"): that would import the package, and it wants torchvision.
    for entry in sys.path:
        folder = Path(entry) / "ofa" / "tutorial"
        if (folder / "evolution_finder.py").is_file():
            return folder
    return None


def _module(name: str) -> ModuleType:
    """One file of the package, without importing the rest."""
    folder = _folder()
    if folder is None:
        raise ModuleNotFoundError("the package 'ofa' is not on PYTHONPATH")
    spec = importlib.util.spec_from_file_location(f"ofa_{name}", folder / f"{name}.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    # What these files import and never use here: progress bars and downloads.
    stubs = {
        "tqdm": SimpleNamespace(tqdm=lambda items, **_: items),
        "ofa": SimpleNamespace(),
        "ofa.utils": SimpleNamespace(download_url=None),
    }
    before = {key: sys.modules.get(key) for key in stubs}
    sys.modules.update(stubs)  # type: ignore[arg-type]
    try:
        spec.loader.exec_module(module)
    finally:
        for key, value in before.items():
            if value is None:
                del sys.modules[key]
            else:
                sys.modules[key] = value
    return module


class OnceForAllEvolution:
    """Their search at 224 px under their settings: population 100, 500 generations."""

    def __init__(self, predictor: Path, latency_yaml: Path) -> None:
        import torch
        import yaml

        predictors, tables = _module("accuracy_predictor"), _module("latency_table")
        self.finder = _module("evolution_finder").EvolutionFinder
        self.predictor: Any = predictors.AccuracyPredictor(pretrained=False, device="cpu")
        state = torch.load(predictor, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        # The names of the layers differ between publications, their order does not.
        names = list(self.predictor.model.state_dict())
        self.predictor.model.load_state_dict(dict(zip(names, state.values(), strict=True)))
        # Their constructor downloads, and calls yaml.load as PyYAML no longer allows.
        self.table = object.__new__(tables.LatencyEstimator)
        with latency_yaml.open() as stream:
            self.table.lut = yaml.safe_load(stream)

    def search(self, budget_ms: float, *, seed: int, generations: int = 500) -> Found:
        """One run for one budget; their range of budgets is 15 to 60 ms."""
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - what their code draws from
        counted = {"evaluations": 0}

        def predict(population: list[Any]) -> Any:
            counted["evaluations"] += len(population)
            return self.predictor.predict_accuracy(population)

        finder = self.finder(
            "note10",
            budget_ms,
            SimpleNamespace(predict_efficiency=self.table.predict_network_latency_given_spec),
            SimpleNamespace(predict_accuracy=predict),
            max_time_budget=generations,
        )
        finder.arch_manager.resolutions = [224]
        _, (top1, arch, latency_ms) = finder.run_evolution_search()
        return Found(arch, float(top1), float(latency_ms), counted["evaluations"])
