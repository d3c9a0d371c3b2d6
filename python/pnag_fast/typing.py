"""Arrays by their element type, under one name each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]
# Counts and keys whose size does not depend on the machine.
Int64Array = npt.NDArray[np.int64]
