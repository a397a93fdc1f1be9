"""The benchmark of scaling, on a model that is small enough for a test."""

import dataclasses
import json

import pytest
from rich.console import Console

from bertlite_jax.config import presets
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks import scale
from bertlite_jax.report.benchmarks.scale import draw, notes, print_table

SMALL = dataclasses.replace(
    presets.ALBERT_TINY, hidden_size=64, num_layers=2, num_heads=2, ffn_size=128, vocab_size=300, max_positions=64
)


def answer(count: int, tokens: dict[int, float]) -> dict:
    """As `scale_worker` writes it: real tokens a second by rows of the batch; a sum of two floats over the devices."""
    sent = [{"kind": "all-reduce", "group": count, "count": 1, "bytes": 8}]
    timed = {
        "seconds_per_step": 0.5,
        "parameters": 2,
        "collectives": sent,
        "waiting_share": 0.25,
        "compute": "cpu_bfloat16",
    }
    figures = [timed | {"rows": rows, "real_tokens_per_second": rate} for rows, rate in tokens.items()]
    return {"platform": "cpu", "device_kind": "cpu", "available": count, "figures": figures}


ANSWERS = [
    scale.Answer("devices", 1, answer(1, {4: 100.0, 2: 80.0})),
    scale.Answer("devices", 2, answer(2, {4: 150.0})),
    scale.Answer("processes", 2, answer(2, {4: 50.0})),
]


def test_speed_up_is_over_one_device_of_the_same_scaling():
    """Two rows a device: the batch of two devices is the same in both, that of one is not."""
    found = scale.figures_of(ANSWERS, rows=2, strong_rows=4)
    shown = {(each["spread"], each["scaling"], each["devices"]): each for each in found}
    assert len(found) == len(shown) == 8
    assert shown["devices", "strong", 2]["speed_up"] == 1.5
    assert shown["devices", "strong", 2]["efficiency"] == 0.75
    assert shown["devices", "weak", 2]["speed_up"] == 1.875
    assert shown["processes", "strong", 2]["speed_up"] == 0.5
    assert shown["processes", "strong", 1]["speed_up"] == 1
    assert shown["devices", "strong", 1]["reduced_bytes"] == 0
    assert shown["devices", "strong", 2]["reduced_bytes"] == 4 * shown["devices", "strong", 2]["parameters"]


def found(cores: int, platform: str = "cpu") -> dict:
    machine = {
        "cpu": "a CPU",
        "flags": [],
        "cores": cores,
        "load": 0.0,
        "python": "3.11.7",
        "packages": {"jax": "0.10.2"},
        "environment": {},
    }
    made = {
        "machine": machine | {"platform": platform, "device_kind": platform},
        "settings": {"preset": "albert_tiny", "length": 64},
        "figures": scale.figures_of(ANSWERS, rows=2, strong_rows=4),
    }
    return made | {"notes": notes(made)}


def test_pretended_devices_are_said_to_show_overhead():
    console = Console(width=120, record=True)
    print_table(found(cores=1), console)
    text = console.export_text()
    assert "This shows overhead, not speed: all devices share the same 1 cores" in text
    assert "2 devices on 1 cores take turns" in text
    assert "take turns" not in " ".join(notes(found(cores=2)))
    assert not any("overhead" in line for line in notes(found(cores=1, platform="tpu")))


def test_the_picture_is_a_png():
    assert draw(found(cores=2)).startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"counts": (2, 4)}, "--counts 2 4 must include 1"),
        ({"counts": (1, 2, 3)}, "2 does not divide 3"),
        ({"rows": 0}, "--rows 0 must be positive"),
        ({"length": 1024}, "--length 1024 exceeds the 512 positions of albert_base"),
        ({"preset": "albert_bass"}, "--preset albert_bass is unknown"),
        ({"spread": ()}, "--spread is empty"),
        ({"plot": "/no/such/folder/x.png"}, "its folder does not exist"),
    ],
)
def test_settings_are_checked_first(options, message):
    with pytest.raises(UserError, match=message):
        scale.bench_scale(**options)


@pytest.mark.slow
def test_devices_and_processes_are_timed_and_their_sums_counted(prepared, tmp_path, monkeypatch, capsys):
    """Each device contributes each parameter once, whatever their number, and a few scalars; alone it sends nothing."""
    monkeypatch.setattr(presets, "ALBERT_TINY", SMALL)
    out, plot = tmp_path / "scale.json", tmp_path / "scale.png"
    found = scale.bench_scale(
        preset="albert_tiny",
        counts=(1, 2),
        rows=2,
        length=64,
        rounds=1,
        text=(prepared.text,),
        tokenizer=prepared.tokenizer,
        out=str(out),
        plot=str(plot),
    )
    assert json.loads(out.read_text()) == found
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "speed-up" in capsys.readouterr().out
    assert [(each["spread"], each["scaling"], each["devices"], each["rows"]) for each in found["figures"]] == [
        (spread, scaling, devices, rows)
        for spread in ("devices", "processes")
        for scaling, devices, rows in (("strong", 1, 4), ("strong", 2, 4), ("weak", 1, 2), ("weak", 2, 4))
    ]
    for each in found["figures"]:
        state_bytes = 4 * each["parameters"]
        few = 4 * 32
        if each["devices"] == 1:
            assert each["reduced_bytes"] == 0
            assert each["waiting_share"] == 0
        else:
            assert state_bytes <= each["reduced_bytes"] <= state_bytes + few
            assert 0 < each["waiting_share"] < 1
        tokens = each["seconds_per_step"] * each["real_tokens_per_second"]
        assert 0 < tokens <= each["rows"] * 64
        assert tokens == pytest.approx(each["fill"] * each["rows"] * 64)
        assert 5 < each["loss"] < 8  # log 300 + log 2 = 6.4 for weights that know nothing.
