"""Which arrays the signatures of `model/` take.

`Float[Array, "B L D"]` is an array on a device, or one that is being traced, of any float dtype and with these three
axes. Axes of one letter in a signature have one size. The test run checks that (`tests/type_checks.py`). Shapes that
read as Python, such as " D" and " B *rest", begin with a space: linters would look for names in them.
"""

from __future__ import annotations

import numpy as np
from jax import Array

AnyArray = Array | np.ndarray
"""An array of the host too: batches and the parameters of a file come as numpy arrays."""
