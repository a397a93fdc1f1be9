#!/usr/bin/env bash
# A check of ten minutes on a GPU or TPU that needs no network; docs/gpu.md describes it, `--help` lists the options.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
[[ -x $python || ${PYTHON:-} ]] || python=python3

export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
exec "$python" "$here/tools/accelerator_check.py" "$@"
