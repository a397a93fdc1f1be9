"""Settings: what disagrees is named with what would be right; what is stored comes back."""

import dataclasses
import json
import math
import pathlib
import re
import runpy
import shlex

import pytest

import bertlite_jax.config
from bertlite_jax.config import checks, effects, files
from bertlite_jax.config.ablation.grid import Grid
from bertlite_jax.config.ablation.members import members
from bertlite_jax.config.distillation.checks import check_distill
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.finetune import Finetune, Finetuned, check_finetune
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Mask, Optim, Pretrain, Run, predictions_per_row
from bertlite_jax.config.search.checks import check_search
from bertlite_jax.config.search.settings import Search
from bertlite_jax.errors import UserError

CONFIGS = sorted((pathlib.Path(__file__).resolve().parents[2] / "configs").glob("*.py"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            Pretrain(model=Model(num_heads=10)),
            "model.num_heads = 10 does not divide model.hidden_size = 768; nearest that does: 8 or 12",
        ),
        (
            Pretrain(model=Model(share_groups=5)),
            "model.share_groups = 5 does not divide model.num_layers = 12; nearest that does: 4 or 6",
        ),
        (Pretrain(model=Model(low_rank=8, share="none")), "model.low_rank = 8 needs layers that share everything"),
        (Pretrain(model=Model(low_rank=8, share_groups=12)), "model.low_rank = 8 needs layers that share: "),
        (Pretrain(model=Model(low_rank=-1)), "model.low_rank = -1 cannot be negative"),
        (
            Pretrain(model=Model(low_rank=768)),
            "model.low_rank = 768 must be less than the smaller of model.hidden_size",
        ),
        (
            Pretrain(model=Model(own_norms=True, share="ffn")),
            "model.own_norms = True needs layers that share everything",
        ),
        (
            Pretrain(model=Model(own_first=9, own_last=4)),
            "own_last = 4 must leave layers that share: together less than",
        ),
        (
            Pretrain(model=Model(own_first=12)),
            "model.own_first = 12 and model.own_last = 0 must leave layers that share",
        ),
        (Pretrain(model=Model(own_last=-1)), "model.own_last = -1 cannot be negative"),
        (
            Pretrain(model=Model(own_first=2, share_groups=3)),
            "model.share_groups = 3 does not divide model.num_layers less own_first and own_last = 10; nearest",
        ),
        (
            Pretrain(model=Model(own_norms=True), run=Run(depths=((3, 10), (6, 20)))),
            "run.depths needs layers that share everything; leave it or model.own_norms out",
        ),
        (Pretrain(model=Model(token_types=0)), "data.pair_task = sop needs model.token_types = 2"),
        (Pretrain(model=Model(pooler=False)), "model.pair_classes needs model.pooler"),
        (Pretrain(data=Data(length=1024)), "data.length = 1024 exceeds model.max_positions = 512"),
        (Pretrain(data=Data(length=16), mask=Mask(rate=0.8)), "21 predictions a row (K) exceed data.length = 16"),
        (Pretrain(mask=Mask(rate=0.0)), "mask.rate = 0.0 must lie between 0 and 1"),
        (Pretrain(mask=Mask(mask_share=0.8, random_share=0.3)), "shares with a sum of at most 1"),
        (Pretrain(data=Data(corpus=("a",), weights=(1.0, 2.0))), "data.weights has 2 numbers for 1 corpora"),
        (Pretrain(optim=Optim(schedule="wsd")), "optim.decay_steps = 0 must lie between 1 and"),
        (Pretrain(run=Run(steps=10)), "optim.warmup_steps = 3125 must be less than run.steps = 10"),
        (Pretrain(run=Run(profile_steps=(15, 10))), "run.profile_steps = 15 10 must be two rising steps"),
        (Pretrain(run=Run(steps=4000, profile_steps=(4001, 4005))), "4001 4005 lie behind run.steps = 4000"),
        (Pretrain(run=Run(profile_steps=(0, 5))), "rising steps from 1 on, such as 10 15"),
        (Pretrain(run=Run(steps=0)), "run.steps = 0 must be positive"),
        (Pretrain(run=Run(devices=-1)), "run.devices = -1 cannot be negative"),
        (Pretrain(run=Run(eval_rows=-8)), "run.eval_rows = -8 cannot be negative"),
        (Pretrain(run=Run(spike_factor=0.5)), "run.spike_factor = 0.5 must be greater than 1, or 0"),
        (Pretrain(optim=Optim(clip_norm=-1.0)), "optim.clip_norm = -1.0 cannot be negative"),
        (Pretrain(optim=Optim(end_fraction=1.5)), "optim.end_fraction = 1.5 must lie between 0 and 1"),
        (Pretrain(optim=Optim(clip_norm=math.nan)), "optim.clip_norm = nan must be a finite number"),
        (Pretrain(optim=Optim(learning_rate=math.inf)), "optim.learning_rate = inf must be a finite number"),
        (Pretrain(model=Model(norm_epsilon=math.nan)), "model.norm_epsilon = nan must be a finite number"),
        (Pretrain(model=Model(residual_scale=0.0)), "residual_scale = 0.0 must be published, depth, or a number from"),
        (Pretrain(model=Model(residual_scale=-1)), "model.residual_scale = -1 must be published, depth, or a number"),
        (Pretrain(model=Model(residual_scale=10.5)), "10.5 must be published, depth, or a number from 1e-06 to 10"),
        (Pretrain(model=Model(residual_scale=math.nan)), "model.residual_scale = nan must be a finite number"),
        (Pretrain(model=Model(residual_scale=math.inf)), "model.residual_scale = inf must be a finite number"),
        (Pretrain(mask=Mask(mask_share=math.nan)), "mask.mask_share = nan must be a finite number"),
        (Pretrain(data=Data(corpus=("a",), weights=(math.nan,))), "data.weights = (nan,) must be a finite number"),
        (Pretrain(optim=Optim(update_clip=-1.0)), "optim.update_clip = -1.0 cannot be negative"),
        (Pretrain(optim=Optim(momentum=1.0)), "optim.momentum = 1.0 must be at least 0 and less than 1"),
        (Pretrain(optim=Optim(neuron_decay=-0.1)), "optim.neuron_decay = -0.1 must be at least 0 and less than 1"),
        (Pretrain(optim=Optim(warmup_steps=-1)), "optim.warmup_steps = -1 cannot be negative"),
        (Pretrain(optim=Optim(decay_steps=-4)), "optim.decay_steps = -4 cannot be negative"),
        (Pretrain(run=Run(fsdp=0)), "run.fsdp = 0 must be positive"),
        (
            Pretrain(run=Run(tensor=8)),
            "run.tensor = 8 does not divide model.num_heads = 12; nearest",
        ),
        (Pretrain(run=Run(tensor=4), model=Model(vocab_size=30_522)), "of 30522; pass --model.vocab-multiple 4"),
        (Pretrain(run=Run(tensor=2), model=Model(attention="cudnn")), "cudnn cannot split heads for run.tensor"),
        (Pretrain(data=Data(buckets=(128, 256))), "data.buckets are for windows that are not packed"),
        (Pretrain(data=Data(buckets=(256, 128), pack=False)), "(256, 128) must rise from 8 or more to below 512"),
        (Pretrain(data=Data(buckets=(128, 512), pack=False)), "must rise from 8 or more to below 512"),
        (
            Pretrain(data=Data(buckets=(96,), pack=False)),
            "data.buckets = 96 does not divide data.length = 512; nearest",
        ),
        (Pretrain(data=Data(("a", "b"), (1, 2), buckets=(128,), pack=False)), "data.weights cannot be combined"),
        (Pretrain(run=Run(depths=(3, 100))), "must be pairs of layers and last step: ((3, 20_000), (6, 50_000))"),  # pyright: ignore[reportArgumentType]
        (Pretrain(run=Run(depths=((6, 100), (3, 200)))), "run.depths = 6 100 3 200 must rise in layers and in steps"),
        (Pretrain(run=Run(depths=((3, 200), (6, 200)))), "must rise in layers and in steps"),
        (Pretrain(run=Run(depths=((0, 200),))), "must rise in layers and in steps, from 1 on"),
        (Pretrain(run=Run(depths=((12, 200),))), "must stay below model.num_layers = 12"),
        (Pretrain(run=Run(depths=((3, 125_000),))), "must end before run.steps = 125000"),
        (
            Pretrain(run=Run(depths=((3, 9),)), model=Model(share="ffn")),
            "run.depths needs layers that share everything",
        ),
        (Pretrain(run=Run(batches=(64, 100))), "must be pairs of rows and last step: ((64, 5_000), (128, 10_000))"),  # pyright: ignore[reportArgumentType]
        (Pretrain(run=Run(batches=((64, 200), (128, 100)))), "run.batches = 64 200 128 100 must rise in steps, from 1"),
        (Pretrain(run=Run(batches=((64, 200), (128, 200)))), "must rise in steps, from 1 on"),
        (Pretrain(run=Run(batches=((64, 0),))), "run.batches = 64 0 must rise in steps, from 1 on"),
        (Pretrain(run=Run(batches=((0, 100),))), "run.batches = 0 100 must have at least 1 as its rows"),
        (Pretrain(run=Run(batches=((-8, 100),))), "run.batches = -8 100 must have at least 1 as its rows"),
        (Pretrain(run=Run(batches=((64, 125_000),))), "run.batches = 64 125000 must end before run.steps = 125000"),
        (
            Pretrain(run=Run(batches=((64, 10), (256, 20)))),
            "run.batches = 64 10 256 20 must change the rows every time; data.batch_rows = 256 comes last",
        ),
        (
            Pretrain(run=Run(batches=((2**25, 10),))),
            "run.batches = 33554432 10 has too large a number of rows; at",
        ),
        (
            Pretrain(data=Data(batch_rows=256), run=Run(batches=((64, 10), (68, 20))), optim=Optim(micro_batches=8)),
            "run.batches = 68 is not divisible by 1 devices x 8 micro-batches; nearest that is: 64",
        ),
        (Pretrain(run=Run(lengths=((1024, 10),))), "run.lengths = 1024 exceeds model.max_positions = 512; lower it"),
        (Pretrain(run=Run(lengths=((7, 10),))), "run.lengths = 7 is too short for a pair with its special tokens"),
        (Pretrain(run=Run(lengths=((9, 10),))), "10 predictions a row (K) exceed run.lengths = 9; lower mask.rate or"),
        (Pretrain(run=Run(lengths=((128, 125_001),))), "run.lengths = 128 125001 must end before run.steps = 125000"),
        (
            Pretrain(run=Run(lengths=((512, 10),))),
            "must change the tokens in a row every time; data.length = 512",
        ),
        (
            Pretrain(data=Data(buckets=(96,), length=384, pack=False), run=Run(lengths=((128, 10),))),
            "data.buckets = 96 does not divide run.lengths = 128; nearest",
        ),
        (Pretrain(mask=Mask(first_rate=1.0)), "mask.first_rate = 1.0 must lie between 0 and 1, or be 0 for mask.rate"),
        (Pretrain(mask=Mask(first_rate=-0.1)), "mask.first_rate = -0.1 must lie between 0 and 1"),
        (Pretrain(mask=Mask(first_rate=math.nan)), "mask.first_rate = nan must be a finite number"),
        (Pretrain(mask=Mask(first_rate=0.15)), "mask.first_rate = 0.15 is mask.rate already; leave it out"),
        (Pretrain(mask=Mask(first_rate=0.99)), "predictions a row (K) exceed data.length = 512; lower mask.first_rate"),
        (Pretrain(mask=Mask(first_rate=0.3, rate_steps=-1)), "mask.rate_steps = -1 cannot be negative"),
        (Pretrain(mask=Mask(first_rate=0.3, rate_steps=1)), "mask.first_rate needs at least two steps"),
        (
            Pretrain(mask=Mask(first_rate=0.3), run=Run(steps=1), optim=Optim(warmup_steps=0)),
            "mask.first_rate needs at least two steps",
        ),
        (
            Pretrain(mask=Mask(first_rate=0.3, rate_steps=125_001)),
            "mask.rate_steps = 125001 must be at most run.steps = 125000",
        ),
        (Pretrain(run=Run(seed=-1)), "run.seed = -1 must be at least 0 and less than 2**32"),
        (Pretrain(run=Run(seed=2**32)), "run.seed = 4294967296 must be at least 0 and less than 2**32"),
    ],
)
def test_impossible_combinations_are_named_with_what_would_be_right(config: Pretrain, message: str):
    with pytest.raises(UserError) as refused:
        checks.check_pretrain(config)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_batch_must_divide_among_devices_and_micro_batches():
    config = Pretrain(data=Data(batch_rows=100), optim=Optim(micro_batches=4))
    with pytest.raises(UserError, match="not divisible by 8 devices x 4 micro-batches; nearest that is: 96"):
        checks.check_pretrain(config, devices=8)


def test_every_batch_must_divide_among_devices_and_processes():
    config = Pretrain(run=Run(batches=((64, 10), (100, 20))))
    with pytest.raises(UserError, match=r"run.batches = 100 is not divisible by 8 devices x 1 .*; nearest that is: 96"):
        checks.check_pretrain(config, devices=8)


def test_slots_hold_the_largest_rate():
    """ceil(0.3 x 512) + 8, whether the rate falls or rises."""
    assert predictions_per_row(Pretrain(mask=Mask(rate=0.15, first_rate=0.3))) == 154 + 8
    assert predictions_per_row(Pretrain(mask=Mask(rate=0.3, first_rate=0.15))) == 154 + 8


def test_predictions_are_the_rates_share_of_a_row_and_one_a_window():
    """ceil(0.15 x 512) + 8, and ceil(0.15 x 512) + 1 unpacked."""
    assert predictions_per_row(Pretrain()) == 77 + 8
    assert predictions_per_row(Pretrain(data=Data(pack=False))) == 77 + 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_file_holds_together(path: pathlib.Path):
    """It passes the checks on 1 and 8 devices, survives JSON, and its docstring says how to run it."""
    names = runpy.run_path(str(path))
    config = names["config"]
    if isinstance(config, Finetune):
        check_finetune(config)
    elif isinstance(config, Grid):
        members(config, path.name)
        config = config.base  # A run stores a config of its own.
    elif isinstance(config, Distill):
        with pytest.raises(UserError, match=r"distill.teachers is empty; pass --teacher RUN_OR_FOLDER"):
            check_distill(config)
        for devices in (1, 8):
            check_distill(effects.replaced(config, "distill.teachers", ("teacher",)), devices)
    elif isinstance(config, Search):
        check_search(config)
    else:
        for devices in (1, 8):
            checks.check_pretrain(config, devices)
    assert files.from_dict(type(config), json.loads(files.to_json(config)), "here") == config
    assert re.search(rf"^ {{4}}bertlite \w+ {path.stem} ", names["__doc__"], re.M)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "from bertlite_jax.config import presets\n\nconfig = presets.ALBERT_BAS",
            ":3: module 'bertlite_jax.config.presets' has no",
        ),
        ("from bertlite_jax.config import Run\nconfig = Run(step=3)", ":2: Run.__init__() got an unexpected keyword"),
        ("import bertlite_jax.nowhere", ":1: No module named 'bertlite_jax.nowhere'"),
        ("config = (", ":1: '(' was never closed"),
        ("settings = 3", " does not assign the name `config`"),
    ],
)
def test_a_mistake_in_a_config_file_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        files.load_file(str(path))
    assert f"config: {path}{message}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", [Pretrain, Finetune, Distill])
def test_recipes_import_every_group_of_settings(kind):
    groups = {type(getattr(kind(), field.name)) for field in dataclasses.fields(kind)}
    assert {group.__name__ for group in groups if dataclasses.is_dataclass(group)} <= set(bertlite_jax.config.__all__)


def test_a_config_in_json_is_a_recipe_too(tmp_path):
    """As a search writes it; what is wrong in it is named with its field."""
    path = tmp_path / "winner.json"
    path.write_text(files.to_json(Pretrain(run=Run(steps=7, lengths=((128, 3),)))))
    assert files.load_file(str(path)) == Pretrain(run=Run(steps=7, lengths=((128, 3),)))
    path.write_text('{"model": {"hidden": 3}}')
    with pytest.raises(UserError, match=r"winner.json: model has the unknown field hidden; did you mean hidden_size"):
        files.load_file(str(path))
    path.write_text('{"model": ')
    with pytest.raises(UserError, match=r"^config: .*winner.json: not JSON"):
        files.load_file(str(path))


def test_unknown_fields_in_a_stored_config_are_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"model": {"hidden": 3}}')
    with pytest.raises(UserError, match="unknown field hidden; did you mean hidden_size"):
        files.read_json(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": "many"}, "hidden_size = 'many' should be of the kind int"),
        ({"hidden_size": 3.5}, "hidden_size = 3.5 should be of the kind int"),
        ({"hidden_size": True}, "hidden_size = True should be of the kind int"),
        ({"pooler": "yes"}, "pooler = 'yes' should be of the kind bool"),
        ({"share": "most"}, "share = 'most' is unknown"),
        ({"hidden_dropout": None}, "hidden_dropout = None should be of the kind float"),
        ({"residual_scale": "dept"}, "residual_scale = 'dept' is unknown; did you mean depth?"),
        ({"residual_scale": "0.5"}, "residual_scale = '0.5' is unknown"),
        ({"residual_scale": True}, "residual_scale = True should be of the kind float"),
        ({"residual_scale": None}, "residual_scale = None should be of the kind float"),
        ({"residual_scale": [1]}, "residual_scale = [1] should be of the kind float, or one of published, depth"),
    ],
)
def test_a_stored_value_of_the_wrong_kind_is_named(values, message):
    with pytest.raises(UserError, match=re.escape(f"config: there: {message}")):
        files.from_dict(Model, values, "there")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depths": "3 to 9"}, "depths = '3 to 9' should be a list"),
        ({"depths": [["a", 3]]}, "depths[0][0] = 'a' should be of the kind int"),
        ({"depths": [[3, 100], [6]]}, "depths[1] = [6] should be a list of 2"),
        ({"depths": [3, 100]}, "depths[0] = 3 should be a list"),
        ({"profile_steps": [10, True]}, "profile_steps[1] = True should be of the kind int"),
        ({"profile_steps": [10]}, "profile_steps = [10] should be a list of 2"),
    ],
)
def test_a_stored_list_is_checked_with_its_elements(values, message):
    with pytest.raises(UserError, match=f"^{re.escape(f'config: there: {message}')}$"):
        files.from_dict(Run, values, "there")


def test_lists_of_any_length_become_tuples():
    stored = {"corpus": [], "weights": [1, 0.5], "buckets": [64, 128, 256]}
    assert files.from_dict(Data, stored, "there") == Data(weights=(1, 0.5), buckets=(64, 128, 256))


def test_a_whole_number_will_do_for_a_real_one():
    assert files.from_dict(Model, {"hidden_dropout": 0}, "there") == Model(hidden_dropout=0.0)


def test_words_and_numbers_will_do_for_a_residual_scale():
    """A config of before the field has the published branches."""
    for scale in ("published", "depth", 0.5, 1):
        assert files.from_dict(Model, {"residual_scale": scale}, "there") == Model(residual_scale=scale)
    assert files.from_dict(Model, {}, "there").residual_factor == 1.0


def test_differences_name_field_and_both_values():
    changed = dataclasses.replace(Pretrain(), run=Run(seed=1))
    assert files.differences(Pretrain(), changed) == ["run.seed: 0 -> 1"]


@pytest.mark.parametrize(
    ("values", "kind", "typed"),
    [
        ({"head": {}}, Pretrain, ["bertlite", "predict", "RUN", "--input", "FILE"]),
        ({"model": {}}, Finetuned, ["bertlite", "finetune", "RECIPE", "--init", "RUN"]),
    ],
)
def test_a_suggested_command_can_be_pasted_into_a_shell(tmp_path, values, kind, typed):
    run = tmp_path / "my run [v1]"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError) as caught:
        files.read_json(run / "config.json", kind, "job")
    command = str(caught.value).partition("is needed; ")[2].replace(" makes one", "")
    assert shlex.split(command)[: len(typed)] == [str(run) if word == "RUN" else word for word in typed]
