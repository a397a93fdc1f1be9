"""The settings of docs/gpu.md exist. XLA aborts a process that sets an unknown flag."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from bertlite_jax.config.model import Model

ROOT = pathlib.Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
(SETTINGS,) = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.M | re.S)
FLAGS = sorted(set(re.findall(r"--xla_\w+=[\w,]+", GUIDE)))


def starts(flags: str) -> bool:
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    script = f'{SETTINGS}\nexport XLA_FLAGS="$XLA_FLAGS {flags}"\n"{sys.executable}" -c "import jax; jax.devices()"'
    return subprocess.run(["bash", "-ec", script], env=env, capture_output=True, check=False).returncode == 0


def test_all_settings_are_known_to_xla():
    assert len(FLAGS) >= 4
    assert starts(" ".join(FLAGS))
    assert not starts("--xla_gpu_nobody_knows_this=1")


@pytest.mark.parametrize("name", re.findall(r"`--model\.([\w-]+)", GUIDE))
def test_all_options_are_those_of_the_model(name: str):
    assert hasattr(Model(), name.replace("-", "_"))
