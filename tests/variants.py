"""Documents as nobody writes them: one valid in form and sum, and wrong in what it says."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

HOSTILE = (
    None,
    True,
    False,
    -1,
    0,
    1,
    3,
    255,
    1 << 31,
    1 << 70,
    10**400,
    -0.5,
    1.5,
    1e308,
    1e-320,
    "",
    "x",
    "1.5",
    "../../x",
    "\x1b[31m",
    "é" * 300,
    [],
    [[]],
    [None],
    {},
    {"x": 1},
    [1, [2, {"a": None}]],
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a document with every key or index in it."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


def vary(document: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a copy with one or two faults, anywhere."""
    varied = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2))):
        # Depth first: what lies deep is far more, and would crowd out the fields at the top.
        found = list(places(varied))
        top = [place for place in found if place[0] is varied]
        container, key = rng.choice(top if rng.random() < 0.3 and top else found)
        kind = rng.randrange(8)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, dict):
            container[str(key) + "s"] = container.pop(key)
        elif kind == 2 and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        elif kind == 3 and isinstance(container[key], (int, float)):
            container[key] = rng.choice((-container[key], str(container[key]), [container[key]]))
        elif kind == 4:
            container[key] = copy.deepcopy(rng.choice(found)[0])
        elif kind == 5 and isinstance(container, dict):
            container["extra"] = rng.choice(HOSTILE)
        else:
            container[key] = copy.deepcopy(rng.choice(HOSTILE))
        if not varied:
            break
    return varied


def vary_arrays(arrays: dict[str, np.ndarray], rng: random.Random) -> dict[str, np.ndarray]:
    """Return the arrays with one wrong in type, shape, values or name."""
    varied = dict(arrays)
    name = rng.choice(sorted(varied))
    array = varied[name]
    kind = rng.randrange(9)
    if kind == 0:
        del varied[name]
    elif kind == 1:
        varied["extra"] = array
    elif kind == 2:
        types = ("f4", "f8", "u1", "i8", "f2", "?")
        with np.errstate(all="ignore"):
            varied[name] = array.astype(rng.choice(types))
    elif kind == 3:
        varied[name] = array[:-1] if array.ndim else array.reshape(1, 1)
    elif kind == 4:
        varied[name] = array.reshape(-1) if array.ndim > 1 else array.reshape(1, -1)
    elif kind == 5:
        varied[name] = array.T
    elif kind == 6:
        varied[name] = np.concatenate([array, array]) if array.ndim else array
    else:
        values = (np.nan, np.inf, -1, 0, 255, 1e30)
        changed = np.array(array)
        if changed.size:
            with np.errstate(all="ignore"):
                changed.flat[rng.randrange(changed.size)] = np.array(rng.choice(values)).astype(
                    changed.dtype
                )
        varied[name] = changed
    return varied
