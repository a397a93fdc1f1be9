"""The memory that there is: of the machine, of a container around it, of `ulimit -v`."""

import os
import pathlib
import resource

import pytest

from bertlite_jax.host import memory


def groups(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, lines: str, limits: dict[str, str]) -> None:
    """Pretends that this process is in these control groups, with these limits by file."""
    own = tmp_path / "own"
    own.write_text(lines)
    for name, limit in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{limit}\n")
    monkeypatch.setattr(memory, "_CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", own)


@pytest.mark.parametrize(
    ("lines", "limits", "wanted"),
    [
        ("0::/job/step\n", {"job/step/memory.max": "max", "job/memory.max": "70000000"}, 70_000_000),
        ("0::/job\n", {"job/memory.max": "90000000", "memory.max": "80000000"}, 80_000_000),
        ("5:cpu,memory:/a\n", {"memory/a/memory.limit_in_bytes": "50000000"}, 50_000_000),
        ("3:cpu:/a\n", {"cpu/a/memory.max": "1000"}, None),
        ("0::/../../outside\n", {"memory.max": "60000000"}, 60_000_000),
        ("nonsense\n\n", {}, None),
    ],
)
def test_the_least_limit_of_the_groups_around_counts(lines, limits, wanted, tmp_path, monkeypatch):
    groups(tmp_path, monkeypatch, lines, limits)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.most_bytes() == (wanted or machine)


def test_a_limit_of_the_shell_counts(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (12_000_000, resource.RLIM_INFINITY))
    assert memory.most_bytes() == 12_000_000
