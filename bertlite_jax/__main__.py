"""`python -m bertlite_jax` is `bertlite`."""

import sys

from bertlite_jax.cli.main import main

sys.exit(main())
