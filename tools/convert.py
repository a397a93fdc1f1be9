"""`bertlite convert` as a script of its own: python tools/convert.py to-hf RUN OUT, and so on."""

import sys

from bertlite_jax.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    sys.exit(main())
