"""What a config of distillation is refused for, before and after its teachers are known."""

import dataclasses

import pytest
import tiny

from bertlite_jax.config.distillation.checks import check_distill, check_relations, check_start, check_teacher
from bertlite_jax.config.distillation.settings import Distill, Distillation, learnt_layers, losses_of
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.pretrain import Data, Optim, Run
from bertlite_jax.errors import UserError

STUDENT = tiny.model(share="none", embed_size=16, token_types=0, pooler=False, pair_classes=0)
TEACHER = dataclasses.replace(STUDENT, num_layers=4, token_types=2, max_positions=32)
CONFIG = Distill(
    model=STUDENT,
    data=Data(length=16, batch_rows=8, windows_per_row=2, pair_task="none"),
    optim=Optim(warmup_steps=1),
    run=Run(steps=10),
    distill=Distillation(teachers=("teacher",)),
)
HEADS = ("mlm", "pooler", "pair")


def with_(**changes) -> Distill:
    return dataclasses.replace(CONFIG, distill=dataclasses.replace(CONFIG.distill, **changes))


def test_the_default_losses_are_those_of_distilbert():
    assert losses_of(CONFIG) == {"soft": 5.0, "mlm": 2.0, "cosine": 1.0}
    assert Distillation().temperature == 2.0


def test_labels_of_a_pair_task_are_learnt_where_there_is_one():
    assert losses_of(replaced(CONFIG, "data.pair_task", "sop"))["pair"] == 1.0


@pytest.mark.parametrize(
    ("students", "teachers", "wanted"),
    [(4, 12, (3, 6, 9, 12)), (6, 12, (2, 4, 6, 8, 10, 12)), (4, 6, (2, 3, 5, 6)), (4, 1, (1, 1, 1, 1))],
)
def test_layers_learn_from_layers_in_equal_steps(students, teachers, wanted):
    """g(m) = m N / M: TinyBERT's 4 and 6 of 12. The last learns from the last."""
    config = replaced(CONFIG, "model.num_layers", students)
    assert learnt_layers(config, dataclasses.replace(TEACHER, num_layers=teachers)) == wanted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teachers": ()}, "distill.teachers is empty; pass --teacher RUN_OR_FOLDER"),
        ({"temperature": 0.0}, "distill.temperature = 0.0 must be positive"),
        ({"temperature": -1.0}, "distill.temperature = -1.0 must be positive"),
        ({"temperature": float("nan")}, "distill.temperature = nan must be a finite number"),
        ({"soft_weight": 0.0, "temperature": 3.0}, "distill.temperature = 3.0 has no effect; leave it out, or give"),
        ({"soft_weight": -1.0}, "distill.soft_weight = -1.0 cannot be negative"),
        ({"soft_weight": 0.0, "mlm_weight": 0.0, "cosine_weight": 0.0}, "all weights of distill that need the teacher"),
        ({"soft_weight": 0.0, "cosine_weight": 0.0}, "all weights of distill that need the teacher are 0"),
        ({"pair_soft_weight": 1.0}, "distill.pair_soft_weight needs a task; set data.pair_task"),
        ({"layers": (1,)}, "distill.layers = (1,) must have 2 layers"),
        ({"layers": (0, 1)}, "distill.layers = (0, 1) must have 2 layers of the teacher, from 1 on"),
        ({"layers": (1, 2)}, "distill.layers = (1, 2) has no effect; leave it out, or give distill.states_weight or"),
        ({"teachers": ("a", "b")}, "distill.cosine_weight needs one teacher, and distill.teachers has 2"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(UserError) as refused:
        check_distill(with_(**changes))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_several_teachers_may_predict_and_relate():
    check_distill(with_(teachers=("a", "b"), cosine_weight=0.0, relations_weight=1.0))


@pytest.mark.parametrize(
    ("changes", "parts", "message"),
    [
        ({}, (), "teacher has no masked-LM head, which distill.soft_weight needs"),
        ({"attention_weight": 1.0, "layers": (2, 5)}, HEADS, "distill.layers = (2, 5) exceeds the 4 layers of teacher"),
        ({"relations_weight": 1.0, "relation_layer": 5}, HEADS, "distill.relation_layer = 5 exceeds the 4 layers"),
    ],
)
def test_what_a_teacher_cannot_give_is_refused(changes, parts, message):
    with pytest.raises(UserError) as refused:
        check_teacher(with_(**changes), TEACHER, parts, "none", "teacher")
    assert message in str(refused.value)


def test_a_teacher_without_heads_gives_states_and_relations():
    changes = {"soft_weight": 0.0, "relations_weight": 1.0, "states_weight": 1.0, "attention_weight": 1.0}
    check_teacher(with_(**changes), TEACHER, (), "none", "teacher")


def test_pairs_are_learnt_from_a_teacher_of_the_same_task():
    config = with_(pair_soft_weight=1.0)
    config = replaced(config, "data.pair_task", "sop")
    check_teacher(config, TEACHER, HEADS, "sop", "teacher")
    with pytest.raises(UserError, match=r"teacher has a pair head for nsp, and distill.pair_soft_weight needs one for"):
        check_teacher(config, TEACHER, HEADS, "nsp", "teacher")
    with pytest.raises(UserError, match=r"teacher has no pair head"):
        check_teacher(config, TEACHER, ("mlm",), "none", "teacher")


def test_a_teacher_with_other_heads_or_fewer_positions_is_refused():
    with pytest.raises(UserError, match=r"attention_weight needs the teacher's model.num_heads = 4 \(it is 2\)"):
        check_teacher(with_(attention_weight=1.0), dataclasses.replace(TEACHER, num_heads=4), HEADS, "none", "teacher")
    with pytest.raises(UserError, match=r"run.tensor = 4 does not divide model.num_heads = 2 of teacher"):
        check_teacher(replaced(CONFIG, "run.tensor", 4), TEACHER, HEADS, "none", "teacher")
    with pytest.raises(UserError, match=r"teacher has 8 positions, and rows have 16 tokens"):
        check_teacher(CONFIG, dataclasses.replace(TEACHER, max_positions=8), HEADS, "none", "teacher")


def test_a_teacher_with_one_token_type_cannot_read_pairs():
    """One without token types does not look at them."""
    config = replaced(CONFIG, "data.pair_task", "sop")
    with pytest.raises(UserError, match=r"teacher has model.token_types = 1, and rows of data.pair_task = sop have"):
        check_teacher(config, dataclasses.replace(TEACHER, token_types=1), HEADS, "sop", "teacher")
    check_teacher(config, dataclasses.replace(TEACHER, token_types=0), HEADS, "sop", "teacher")


def test_relation_heads_divide_all_widths():
    config = with_(relations_weight=1.0)
    check_relations(config, 8, {"teacher": 24})
    with pytest.raises(UserError, match=r"distill.relation_heads = 16 does not divide the hidden size of teacher = 24"):
        check_relations(config, 16, {"teacher": 24})
    with pytest.raises(UserError, match=r"distill.relation_heads = 12 does not divide model.hidden_size = 16"):
        check_relations(config, 12, {"teacher": 24})


@pytest.mark.parametrize("start", ["alternate", "first", "last", "groups"])
def test_a_student_with_more_layers_than_its_teacher_is_refused(start):
    config = replaced(with_(start=start), "model.num_layers", 5)
    with pytest.raises(
        UserError, match=rf"distill.start = {start} needs a teacher with at least model.num_layers = 5 lay"
    ):
        check_start(config, TEACHER, "teacher")
    check_start(replaced(config, "distill.start", "random"), TEACHER, "teacher")


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ({"ffn_size": 16}, {}, "teacher has model.ffn_size = 32 and the student 16; pass --distill.fit-widths"),
        ({"num_heads": 4}, {}, "teacher has model.num_heads = 2 and the student 4; change it"),
        ({"norm": "pre"}, {}, "teacher has model.norm = post and the student pre"),
        ({"ffn_size": 64}, {}, "teacher has model.ffn_size = 32 and the student 64, which cannot be taken from it"),
        ({}, {"embed_size": 8}, "teacher has model.embed_size = 8 and the student 16, which cannot be taken"),
        ({}, {"share": "all", "depth_vector": True}, "teacher has a vector for each layer"),
    ],
)
def test_shapes_that_cannot_be_taken_from_a_teacher_are_refused(student, teacher, message):
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(STUDENT, **student))
    with pytest.raises(UserError) as refused:
        check_start(config, dataclasses.replace(TEACHER, **teacher), "teacher")
    assert message in str(refused.value)


def test_smaller_widths_are_taken_where_that_is_asked_for():
    student = dataclasses.replace(STUDENT, embed_size=8, ffn_size=16)
    check_start(dataclasses.replace(with_(fit_widths=True), model=student), TEACHER, "teacher")
