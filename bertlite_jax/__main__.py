"""`python -m bertlite_jax` is `bertlite`."""

import sys

from bertlite_jax.cli import main

sys.exit(main())
