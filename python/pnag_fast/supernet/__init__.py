"""Supernets: every network of a space in one set of shared weights.

Build one, train it, judge sub-networks, and cut out those that are wanted::

    net = pf.supernet.build(space)
    pf.supernet.train(net, data)
    top1 = pf.supernet.evaluate(net, archs, data)
    network = pf.supernet.recalibrate(net.extract(archs[0]), data)

This module needs torch; importing it without raises `MissingDependencyError`.
"""

from __future__ import annotations

from pnag_fast.errors import MissingDependencyError

try:
    import torch  # noqa: F401 - only to say clearly that it is absent
except ModuleNotFoundError as error:
    raise MissingDependencyError("torch", "train", "a supernet") from error

from . import distributed
from .checkpoint import load, save
from .evaluation import accuracy, evaluate, recalibrate
from .judging import sample_related
from .machine import device, devices
from .model import InputScale, StaticNetwork, Supernet, build, extremes, folded_weights
from .once_for_all import load_ofa
from .published import published, published_accuracies
from .recipes import RECIPES, Allowed, Phase, compound_architectures, plan
from .resume import EpochRecord
from .trained_on import TrainedOn, images_of
from .training import TrainingLog, train

__all__ = [
    "RECIPES",
    "Allowed",
    "EpochRecord",
    "InputScale",
    "Phase",
    "StaticNetwork",
    "Supernet",
    "TrainedOn",
    "TrainingLog",
    "accuracy",
    "build",
    "compound_architectures",
    "device",
    "devices",
    "distributed",
    "evaluate",
    "extremes",
    "folded_weights",
    "images_of",
    "load",
    "load_ofa",
    "plan",
    "published",
    "published_accuracies",
    "recalibrate",
    "sample_related",
    "save",
    "train",
]
