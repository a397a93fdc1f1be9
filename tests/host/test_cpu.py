"""What stands beside a figure is what the kernel says of the CPU, on x86 and on ARM."""

import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu

INTEL = (
    "processor\t: 0\nmodel name\t: Imagined Xeon\nflags\t\t: fpu avx2 amx_bf16 sse\n\nprocessor\t: 1\nflags\t\t: fpu\n"
)
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd asimddp i8mm\n"


@pytest.fixture
def on(monkeypatch, tmp_path):
    """Pretends that /proc/cpuinfo has this content."""

    def pretend(content: str) -> None:
        (tmp_path / "cpuinfo").write_text(content)
        monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.delenv("BERTLITE_CPU_FLAGS", raising=False)
        cpu.cpuinfo.cache_clear()

    yield pretend
    monkeypatch.undo()
    cpu.cpuinfo.cache_clear()


def test_the_first_cpu_of_a_pc_speaks_for_all(on):
    on(INTEL)
    assert cpu.name() == "Imagined Xeon"
    assert cpu.flags() == {"fpu", "avx2", "amx_bf16", "sse"}
    assert cpu.fast_flags() == ["avx2", "amx_bf16"]


def test_arm_calls_them_features_and_has_no_model_name(on):
    on(ARM)
    assert cpu.fast_flags() == ["asimddp", "i8mm"]
    assert cpu.name()


def test_without_linux_nothing_is_claimed(on, tmp_path):
    on("")
    (tmp_path / "cpuinfo").unlink()
    assert cpu.flags() == frozenset()
    assert cpu.fast_flags() == []


def test_the_environment_can_name_other_instruction_sets(on, monkeypatch):
    on(INTEL)
    monkeypatch.setenv("BERTLITE_CPU_FLAGS", "avx2 avx512_bf16")
    assert cpu.flags() == {"avx2", "avx512_bf16"}
    assert cpu.fast_flags() == ["avx2", "avx512_bf16"]
    assert cpu.actual_flags() == {"fpu", "avx2", "amx_bf16", "sse"}


def test_an_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv("BERTLITE_CPU_FLAGS", "avx2 amx")
    with pytest.raises(UserError, match="BERTLITE_CPU_FLAGS: amx is not one of avx2 avx512f"):
        cpu.flags()
