"""Works of every kind that goes on after a kill, as small as they can be.

The files of earlier releases in ``files/`` were made of these, so they stay as they are.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

import pnag_fast as pf
from pnag_fast.spaces.mobilenetv3 import MobileNetV3, mobilenetv3_space

HERE = Path(__file__).parent
FILES = HERE / "files"

# What `train` below takes as a rule.
TRAINING = {"epochs": 2, "batch_size": 16, "ema": 0.9, "seed": 3}


def module(path):
    """Load a file that is no part of a package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def space():
    """One elastic stage, 20 architectures, networks of 2,000 weights."""
    network = MobileNetV3(
        channels=(8, 8),
        strides=(1,),
        activations=("h_swish",),
        squeeze_excite=(True,),
        expand_channels=16,
        feature_channels=16,
        stem_stride=1,
        max_depth=2,
        kernels=(3, 5),
        expand_ratios=(2, 3),
        classes=3,
    )
    return mobilenetv3_space("mini", network, min_depth=1, resolutions=(8,))


def images():
    """Bright rows on noise: three classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    pixels = rng.integers(0, 160, (120, 8, 8, 3), dtype=np.uint8)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[label * 2 : label * 2 + 2] += 90
    return pf.data.split(pixels, labels, ["a", "b", "c"], name="rows")
