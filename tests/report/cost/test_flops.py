"""Parameter counts, FLOPs, peaks and MFU against published figures and arithmetic shown here."""

import dataclasses
import time

import numpy as np
import pytest

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Mask, Optim, Pretrain, Run
from bertlite_jax.report.cost import flops

BASE = Model()
LARGE = Model(hidden_size=1024, num_layers=24, num_heads=16, ffn_size=4096)
XLARGE = Model(hidden_size=2048, num_layers=24, num_heads=16, ffn_size=8192)
XXLARGE = Model(hidden_size=4096, num_layers=12, num_heads=64, ffn_size=16384)
BERT_BASE = Model(vocab_size=30_522, embed_size=768, share="none")
BERT_LARGE = dataclasses.replace(LARGE, vocab_size=30_522, embed_size=1024, share="none")
DISTILBERT = dataclasses.replace(BERT_BASE, num_layers=6, token_types=0, pooler=False, pair_classes=0)
BORT = Model(
    vocab_size=50_265, embed_size=1024, hidden_size=1024, num_layers=4, num_heads=8, ffn_size=768, token_types=0,
    share="none", pooler=False, pair_classes=0,
)  # fmt: skip
ALBERT = {"base": BASE, "large": LARGE, "xlarge": XLARGE, "xxlarge": XXLARGE}


def mini(layers: int, width: int) -> Model:
    """Google's BERT miniatures: heads of 64, F = 4D."""
    return Model(
        vocab_size=30_522, embed_size=width, hidden_size=width, num_layers=layers, num_heads=width // 64,
        ffn_size=4 * width, share="none",
    )  # fmt: skip


def with_pooler(model: Model) -> int:
    """What Hugging Face's AlbertModel and BertModel hold: no heads."""
    count = flops.parameters(model)
    return count["encoder"] + count["pooler"]


# --- Parameters --------------------------------------------------------------------------------------------------

# Reference counts of the released shapes, V = 30,000: part, base, large, xlarge, xxlarge.
PARTS = [
    ("embeddings", 3_906_048, 3_906_048, 3_906_048, 3_906_048),
    ("projection", 99_072, 132_096, 264_192, 528_384),
    ("attention", 2_362_368, 4_198_400, 16_785_408, 67_125_248),
    ("ffn", 4_722_432, 8_393_728, 33_564_672, 134_238_208),
    ("norms", 3_072, 4_096, 8_192, 16_384),
    ("pooler", 590_592, 1_049_600, 4_196_352, 16_781_312),
    ("mlm", 128_688, 161_456, 292_528, 554_672),
    ("pair", 1_538, 2_050, 4_098, 8_194),
    ("total", 11_813_810, 17_847_474, 59_021_490, 223_158_450),
]


@pytest.mark.parametrize(("part", "base", "large", "xlarge", "xxlarge"), PARTS)
def test_each_part_of_the_four_alberts_has_the_published_size(part, base, large, xlarge, xxlarge):
    counts = [flops.parameters(model)[part] for model in ALBERT.values()]
    assert counts == [base, large, xlarge, xxlarge]


@pytest.mark.parametrize(("part", "sizes"), [
    ("shared block", (7_087_872, 12_596_224, 50_358_272, 201_379_840)),
    ("AlbertModel", (11_683_584, 17_683_968, 58_724_864, 222_595_584)),
    ("MLM only, no pooler", (11_221_680, 16_795_824, 54_821_040, 206_368_944)),
])  # fmt: skip
def test_the_sums_of_parts_have_the_published_size(part, sizes):
    for model, expected in zip(ALBERT.values(), sizes, strict=True):
        count = flops.parameters(model)
        bare = dataclasses.replace(model, pooler=False, pair_classes=0)
        sums = {
            "shared block": count["attention"] + count["ffn"] + count["norms"],
            "AlbertModel": with_pooler(model),
            "MLM only, no pooler": flops.parameters(bare)["total"],
        }
        assert sums[part] == expected


@pytest.mark.parametrize(("model", "expected"), [
    (Model(vocab_size=21_128, hidden_size=312, num_layers=4, ffn_size=1248), 4_080_520),  # albert_zh tiny
    (Model(vocab_size=21_128, hidden_size=384, num_layers=6, ffn_size=1536), 4_742_272),  # albert_zh small
    (Model(vocab_size=21_128), 10_547_968),  # albert_zh base
    (BERT_BASE, 109_482_240),
    (BERT_LARGE, 335_141_888),
    (mini(2, 128), 4_385_920),
    (mini(4, 256), 11_170_560),
    (mini(4, 512), 28_763_648),
    (mini(8, 512), 41_373_184),
])  # fmt: skip
def test_other_released_encoders_have_the_published_size(model, expected):
    assert with_pooler(model) == expected


def test_bert_with_its_pretraining_heads_has_the_published_size():
    assert flops.parameters(BERT_BASE)["total"] == 110_106_428
    assert flops.parameters(BERT_LARGE)["total"] == 336_226_108


@pytest.mark.parametrize(("embed", "share", "expected"), [
    (768, "all", 31_114_752), (768, "attention", 83_095_296), (768, "ffn", 57_134_592), (768, "none", 109_081_344),
    (128, "all", 11_683_584), (128, "attention", 63_664_128), (128, "ffn", 37_703_424), (128, "none", 89_650_176),
])  # fmt: skip
def test_the_sharing_ablation_has_the_published_sizes(embed, share, expected):
    """Table 4 of the ALBERT paper prints these as 31M, 83M, 57M, 108M and 12M, 64M, 38M, 89M."""
    assert with_pooler(Model(embed_size=embed, share=share)) == expected


@pytest.mark.parametrize(("embed", "share", "millions"), [(64, "all", 9.68), (64, "none", 87.65), (256, "all", 15.69),
                                                  (256, "none", 93.65)])  # fmt: skip
def test_the_embedding_ablation_has_the_published_sizes(embed, share, millions):
    assert round(with_pooler(Model(embed_size=embed, share=share)) / 1e6, 2) == millions


def test_bort_as_released_has_76_million_parameters():
    """52.0 M in embeddings, 75.1 M with the encoder, 76.21 M with the MLM head: the file of amazon/bort agrees."""
    count = flops.parameters(BORT)
    assert round(count["embeddings"] / 1e6, 1) == 52.0
    assert round(count["encoder"] / 1e6, 1) == 75.1
    assert round(count["total"] / 1e6, 2) == 76.21


def test_groups_hold_one_block_each():
    one, three = flops.parameters(BASE), flops.parameters(dataclasses.replace(BASE, share_groups=3))
    assert three["total"] - one["total"] == 2 * 7_087_872
    attention_only = flops.parameters(dataclasses.replace(BASE, share="attention", share_groups=3))
    assert attention_only["attention"] == 3 * 2_362_368
    assert attention_only["ffn"] == 12 * 4_722_432


def test_a_padded_vocabulary_adds_rows_and_biases():
    """30,522 rows up to a multiple of 64 are 30,528: six rows of 768 and six biases."""
    padded = dataclasses.replace(BERT_BASE, vocab_multiple=64)
    assert flops.parameters(padded)["total"] == 110_106_428 + 6 * 768 + 6


def test_pre_norm_adds_one_layer_norm():
    assert flops.parameters(dataclasses.replace(BASE, norm="pre"))["total"] == 11_813_810 + 2 * 768


# --- FLOPs -------------------------------------------------------------------------------------------------------

# Training GFLOP a row without pooler, from 3 * (layers + attention + embedding + head).
ROWS = [
    (BASE, 128, 20, 67.6),
    (BASE, 512, 77, 292.0),
    (LARGE, 512, 77, 1007.3),
    (XLARGE, 512, 77, 3868),
    (XXLARGE, 512, 77, 7580),
    (BERT_BASE, 512, 77, 301.0),
    (BERT_LARGE, 512, 77, 1019.9),
    (BERT_LARGE, 128, 20, 240.6),
    (DISTILBERT, 512, 77, 156.1),
    (BORT, 512, 77, 108.0),
]


@pytest.mark.parametrize(("model", "length", "predictions", "gigaflops"), ROWS)
def test_training_one_row_costs_the_tabled_gigaflops(model, length, predictions, gigaflops):
    cost = 3 * flops.forward_flops_per_row(model, length, predictions, 0) / 1e9
    assert cost == pytest.approx(gigaflops, abs=0.5 if gigaflops > 1100 else 0.05)


@pytest.mark.parametrize(("model", "length", "predictions", "factor"), [
    (BASE, 512, 77, 1.04), (BERT_BASE, 512, 77, 1.21), (DISTILBERT, 512, 77, 1.40), (BORT, 512, 77, 2.27),
])  # fmt: skip
def test_a_head_over_all_slots_costs_the_tabled_factor(model, length, predictions, factor):
    gathered = flops.forward_flops_per_row(model, length, predictions, 0)
    assert flops.forward_flops_per_row(model, length, length, 0) / gathered == pytest.approx(factor, abs=0.005)


@pytest.mark.parametrize(("model", "at_512", "at_128"), [(BASE, 189, 176), (LARGE, 655, 618), (XLARGE, 2517, 2443),
                                                 (XXLARGE, 4934, 4860)])  # fmt: skip
def test_forward_cost_per_token_is_that_of_the_albert_reference(model, at_512, at_128):
    """Forward MFLOP a token with 20 predictions, as in the reference's budget."""
    for length, expected in ((512, at_512), (128, at_128)):
        assert round(flops.forward_flops_per_row(model, length, 20, 0) / length / 1e6) == pytest.approx(expected, abs=1)


def test_the_albert_base_schedule_costs_one_and_a_half_times_ten_to_the_twenty():
    """125,000 steps of 4,096 rows of 512."""
    total = 3 * flops.forward_flops_per_row(BASE, 512, 20, 0) * 125_000 * 4096
    assert total == pytest.approx(1.49e20, rel=0.005)


def test_sharing_saves_no_flops():
    costs = {flops.forward_flops_per_row(dataclasses.replace(BASE, share=s), 512, 77, 1) for s in ("all", "none")}
    assert len(costs) == 1


def test_the_pooler_and_the_pair_head_cost_their_products_once_a_window():
    extra = flops.forward_flops_per_row(BASE, 128, 20, 3) - flops.forward_flops_per_row(BASE, 128, 20, 0)
    assert extra == 3 * (2 * 768 * 768 + 2 * 768 * 2)


def test_a_step_is_three_forward_passes_over_the_rows_with_the_static_slots():
    """K = ceil(0.15 * 128) + 8 = 28 packed, + 1 = 21 with one window a row."""
    config = Pretrain(data=Data(length=128, batch_rows=32), mask=Mask(rate=0.15))
    assert flops.train_flops_per_step(config) == 3 * 32 * flops.forward_flops_per_row(BASE, 128, 28, 8)
    single = dataclasses.replace(config, data=dataclasses.replace(config.data, pack=False))
    assert flops.train_flops_per_step(single) == 3 * 32 * flops.forward_flops_per_row(BASE, 128, 21, 1)


def test_the_formula_counts_what_xla_counts_in_the_same_products():
    """Two layers' products written out in JAX: XLA's count of the unrolled program is the formula's."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    model = Model(vocab_size=64, embed_size=8, hidden_size=16, num_layers=2, num_heads=2, ffn_size=32, pair_classes=0)
    model = dataclasses.replace(model, pooler=False)
    L, K, D, E, F, V = 12, 3, 16, 8, 32, 64

    def forward(x_LE, project, square, up, down, dense, table):
        x = x_LE @ project
        for _ in range(2):
            q, k, v = x @ square, x @ square * 2, x @ square * 3
            heads = [t.reshape(L, 2, 8) for t in (q, k, v)]
            scores = jnp.einsum("qhd,khd->hqk", heads[0], heads[1])
            x = jnp.einsum("hqk,khd->qhd", scores, heads[2]).reshape(L, D) @ square
            x = x @ up @ down
        return x[:K] @ dense @ table.T

    shapes = [(L, E), (E, D), (D, D), (D, F), (F, D), (D, E), (V, E)]
    arguments = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    lowered = jax.jit(forward).lower(*arguments).as_text()
    assert lowered.count("dot_general") == 1 + 2 * (4 + 2 + 2) + 2
    expected = flops.forward_flops_per_row(model, L, K, 0)
    cost = jax.jit(forward).lower(*arguments).cost_analysis()
    assert cost["flops"] == pytest.approx(expected, rel=0.02)  # the two element-wise factors count there


# --- Peaks and MFU -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "teraflops"), [
    ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H200", 989),
    ("TPU v4", 275), ("TPU v5 lite", 197), ("TPU v5e", 197), ("TPU v5", 459), ("TPU v5p", 459),
    ("TPU v6 lite", 918), ("TPU v6e", 918),
])  # fmt: skip
def test_published_bfloat16_peaks(kind, teraflops):
    assert flops.peak_flops(kind, "bfloat16") == teraflops * 1e12
    assert flops.peak_origin(kind) == "published"


@pytest.mark.parametrize(("kind", "chip_teraflops"), [("TPU v3", 123), ("TPU7x", 2307)])
def test_chips_that_show_two_devices_give_each_half(kind, chip_teraflops):
    assert flops.peak_flops(kind, "bfloat16") == chip_teraflops * 1e12 / 2


def test_float32_products_run_as_tf32_on_a_gpu_and_in_one_bfloat16_pass_on_a_tpu():
    assert flops.peak_flops("NVIDIA A100-SXM4-40GB", "float32") == 156e12
    assert flops.peak_flops("TPU v4", "float32") == 275e12


@pytest.mark.parametrize("kind", ["NVIDIA GeForce RTX 3090", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"])
def test_an_unknown_device_has_no_peak_and_no_mfu(kind):
    assert flops.peak_flops(kind, "bfloat16") is None
    assert flops.peak_origin(kind) == "unknown"
    assert flops.mfu(1e12, 1.0, None) is None


def test_an_unresolved_precision_is_refused():
    with pytest.raises(ValueError, match="auto"):
        flops.peak_flops("NVIDIA H200", "auto")


def test_a_cpu_is_measured_quickly_and_named_so():
    start = time.perf_counter()
    peak = flops.peak_flops("cpu", "float32")
    assert time.perf_counter() - start < 2  # 0.25 s on a quiet machine
    assert peak is not None
    assert 1e8 < peak < 1e15
    assert flops.peak_origin("cpu") == "measured"


def test_a_cpu_is_measured_once():
    calls = []

    def multiply(a, b):
        calls.append(a.shape)
        return a @ b

    first = flops.peak_flops("cpu", "bfloat16", multiply)
    made = len(calls)
    assert made >= 2
    assert flops.peak_flops("cpu", "bfloat16", multiply) == first
    assert len(calls) == made


def test_bfloat16_on_a_cpu_needs_its_own_product():
    assert flops.peak_flops("cpu", "bfloat16") is None


def test_a_measured_peak_is_the_size_of_the_product_over_its_time():
    """A pretended machine of 80 GFLOP/s whose products never come for free: 0.2 ms start-up each, on its own clock."""
    clock = [0.0]

    def multiply(a, b):
        clock[0] += 2 * len(a) ** 3 / 80e9 + 2e-4

    peak = flops.measured_peak(multiply, now=lambda: clock[0])
    assert clock[0] < 0.3
    assert 0.97 * 80e9 < peak < 80e9


def test_mfu_of_the_published_rate_is_the_published_share():
    """BERT-large, 498 rows/s of 512 slots on an H200: 52 % of 989 TFLOP/s with the MLPerf head."""
    row = 3 * flops.forward_flops_per_row(BERT_LARGE, 512, 77, 0)
    assert flops.mfu(row * 504, 1.0, 989e12) == pytest.approx(0.52, abs=0.005)
    assert flops.mfu(row * 504 * 8, 1.0, 989e12, devices=8) == pytest.approx(0.52, abs=0.005)


# --- Memory ------------------------------------------------------------------------------------------------------


def test_weights_gradients_and_moments_take_sixteen_bytes_a_parameter():
    memory = flops.step_memory_bytes(Pretrain(data=Data(batch_rows=8)))
    assert memory["parameters"] + memory["gradients"] + memory["optimiser"] == 16 * 11_813_810
    assert memory["total"] == sum(value for name, value in memory.items() if name != "total")


def test_muon_remembers_one_number_for_each_of_its_parameters_and_adamw_two():
    """Of ALBERT base: four kernels of 768 x 768, two of 768 x 3,072, the projection of 128 x 768."""
    kernels = 4 * 768 * 768 + 2 * 768 * 3072 + 128 * 768
    for optim in (Optim(name="muon"), Optim(name="normuon")):
        config = Pretrain(data=Data(batch_rows=8), optim=optim)
        assert flops.step_memory_bytes(config)["optimiser"] == 4 * (2 * 11_813_810 - kernels)
    own = Pretrain(model=BERT_BASE, optim=Optim(name="muon"))
    assert flops.step_memory_bytes(own)["optimiser"] == 4 * (2 * 110_106_428 - 12 * 12 * 768 * 768)


def test_the_logits_of_64_rows_of_512_take_over_half_a_gigabyte():
    """B = 64, K = 77, V = 30,000 in float32: 0.59 GB, and as much for their gradient."""
    config = Pretrain(data=Data(batch_rows=64, pack=False, windows_per_row=1), mask=Mask(rate=76 / 512))
    assert flops.step_memory_bytes(config)["logits"] == 2 * 64 * 77 * 30_000 * 4


def test_micro_batches_and_devices_divide_the_activations():
    whole = flops.step_memory_bytes(Pretrain(data=Data(batch_rows=64)))
    parts = flops.step_memory_bytes(Pretrain(data=Data(batch_rows=64), optim=Optim(micro_batches=4)), devices=2)
    assert whole["activations"] == 8 * parts["activations"]
    assert parts["gradients"] == 2 * parts["parameters"]


@pytest.mark.parametrize(
    ("run", "parameters", "optimiser"),
    [
        (Run(zero1=True), 4, 8 / 8),
        (Run(fsdp=8), 4 / 8 + 4, 8 / 8),  # Put together for the step.
        (Run(tensor=2), 4 / 2, 8 / 2),
        (Run(fsdp=2, tensor=2, zero1=True), 4 / 4 + 4 / 2, 8 / 8),
    ],
)
def test_what_is_split_over_eight_devices_takes_its_share(run: Run, parameters: float, optimiser: float):
    """Bytes a parameter on one device; rows are split among all devices but those that tensor takes."""
    whole = flops.step_memory_bytes(Pretrain(data=Data(batch_rows=64)))
    memory = flops.step_memory_bytes(Pretrain(data=Data(batch_rows=64), run=run), devices=8)
    assert memory["parameters"] == pytest.approx(parameters * 11_813_810, rel=1e-6)
    assert memory["optimiser"] == pytest.approx(optimiser * 11_813_810, rel=1e-6)
    assert memory["logits"] == whole["logits"] / 8


@pytest.mark.parametrize("changes", [{}, {"remat": "dots"}])
def test_the_estimate_is_within_a_sixth_of_what_xla_allocates(changes):
    """Gradient of the real encoder and heads at a shape of its own; XLA counts gradients as temporaries here."""
    jax = pytest.importorskip("jax")
    from bertlite_jax.config.pretrain import predictions_per_row
    from bertlite_jax.model import heads

    model = Model(
        vocab_size=600, embed_size=64, hidden_size=192, num_layers=5, num_heads=3, ffn_size=640, compute="float32",
        attention="xla", **changes,
    )  # fmt: skip
    config = Pretrain(model=model, data=Data(length=96, batch_rows=16))
    network = heads.PretrainingModel(model)
    K, P = predictions_per_row(config), config.data.windows_per_row

    def outputs(call, ids):
        return call(ids, ids, ids, ids, ids[:, :P], ids[:, :K])

    def loss(params, ids):
        logits, pairs = outputs(lambda *args: network.apply({"params": params}, *args), ids)
        return -jax.nn.log_softmax(logits)[..., 1].sum() - jax.nn.log_softmax(pairs)[..., 0].sum()

    ids = jax.ShapeDtypeStruct((16, 96), np.int32)
    params = jax.eval_shape(lambda ids: outputs(lambda *a: network.init(jax.random.key(0), *a), ids)["params"], ids)
    compiled = jax.jit(jax.grad(loss)).lower(params, ids).compile()
    memory = flops.step_memory_bytes(config, scores=False)  # A CPU computes them again, piece by piece.
    expected = compiled.memory_analysis().temp_size_in_bytes
    assert memory["activations"] + memory["logits"] == pytest.approx(expected, rel=1 / 6)


def test_remat_and_bfloat16_save_activations():
    def kept(**changes):
        model = dataclasses.replace(BASE, compute="float32", **changes)
        return flops.step_memory_bytes(Pretrain(model=model, data=Data(batch_rows=8)))["activations"]

    assert kept(remat="full") < kept(remat="dots") < kept()
    config = Pretrain(model=BASE, data=Data(batch_rows=8))
    half = flops.step_memory_bytes(config, compute="bfloat16")["activations"]
    assert half < flops.step_memory_bytes(config)["activations"]
