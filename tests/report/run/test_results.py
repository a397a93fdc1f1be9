"""Results in words: no reader has to know the fields of summary.json."""

import re

from html_reader import Reader

from bertlite_jax.report.run import results

SUMMARY = {
    "steps": 4000,
    "wall_seconds": 232.7,
    "valid_mlm_loss": 3.728,
    "valid_mlm_accuracy": 0.2518,
    "valid_pair_loss": 0.561,
    "valid_pairs": 947.0,
    "compute": "float32",
    "time_shares": {"step": 0.75},
    "hf_max_abs_diff": None,
    "latency_ms": {"onnx-f32": 0.563, "jax-int8": 0.772},
    "span_f1": {"hard": 0.5},
    "majority_share": 0.5,
}


def cells(summary: dict) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", results.section(summary, 32).split("</table>")[0])
    return [[Reader(cell).text.strip() for cell in re.findall(r"<td.*?</td>", row)] for row in rows[1:]]


def test_figures_have_names_and_units_in_the_order_of_the_summary():
    assert cells(SUMMARY) == [
        ["Steps", "4,000", ""],
        ["Wall time", "3:53", "h:mm:ss or mm:ss"],
        ["Validation MLM loss", "3.728", "nats a [MASK] position"],
        ["Validation MLM accuracy", "25.2 %", "on [MASK] positions"],
        ["Validation pair loss", "0.561", "nats a pair"],
        ["Validation pairs", "947", ""],
        ["Products in", "float32", ""],
        ["Largest difference to transformers", "–", "after the export, over all outputs; – if not checked"],
        ["Span f1, hard", "0.5", ""],
        ["Majority share", "0.5", ""],
        ["A row of 32 tokens, ms", "0.563", "by onnx-f32"],
        ["A row of 32 tokens, ms", "0.772", "by jax-int8"],
    ]


def test_no_cell_has_the_name_of_a_field():
    assert not any("_" in row[0] for row in cells(SUMMARY | {name: 1 for name in results.LABELS}))


def test_shares_of_the_wall_time_are_bars_and_nothing_is_nothing():
    assert '<i style="width:75.0%"></i>' in results.section(SUMMARY, 32)
    assert results.section({}, 32) == ""
