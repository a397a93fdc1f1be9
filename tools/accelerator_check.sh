#!/usr/bin/env bash
# Ten minutes on a GPU or TPU, without a network; docs/gpu.md says what comes out. `--help` lists the options.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
[[ -x $python || ${PYTHON:-} ]] || python=python3

export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
exec "$python" "$here/tools/accelerator_check.py" "$@"
