"""Recipes that end the program, hold other things than a config, or are no Python: the file is named."""

import pytest

IMPORTS = "from bertlite_jax.config import *\n"
RECIPES: dict[str, tuple[str | bytes, str]] = {
    "sys.exit(0)": ("import sys; sys.exit(0)", "sys.exit 0"),
    "sys.exit with a word": ("import sys\n\nsys.exit('enough')", ":3: a recipe assigns"),
    "exit()": ("exit()", "sys.exit"),
    "quit in a function": ("def f():\n  quit(3)\nf()", ":2: "),
    "an error": ("1 / 0", ":1: division by zero"),
    "an error without a text": ("raise ValueError", ":1: ValueError"),
    "an error of several lines": ("raise ValueError('a\\nb')", ":1: a"),
    "an import that is missing": ("import nowhere_at_all", "nowhere_at_all"),
    "endless recursion": ("def f(): f()\nf()", "recursion"),
    "nothing": ("", "does not assign the name `config`"),
    "a comment": ("# nothing", "does not assign the name `config`"),
    "null bytes": (b"config = 1\0", ""),
    "a program": (b"\x7fELF\x02\x01\x01\x00" + bytes(1000), ""),
    "a zip file": (b"PK\x03\x04" + bytes(100), ""),
    "latin-1": ("name = 'é'".encode("latin-1"), ""),
    "utf-16": ("config = 1".encode("utf-16"), ""),
    "JSON": ('{"run": {"steps": true}}', ""),
    "open brackets": ("(" * 500, ""),
    "a syntax error": ("config = = 1", ":1: "),
    "wrong indentation": ("if True:\nx = 1", ":2: "),
    "config = None": ("config = None", "NoneType"),
    "config = 5": ("config = 5", "config is a int"),
    "config is a class": (f"{IMPORTS}config = KIND", "config is a type"),
    "config is a dict": ("config = {}", "config is a dict"),
    "config is another kind": (f"{IMPORTS}config = Model()", "config is a Model"),
    "tasks is a list": (f"{IMPORTS}config = KIND()\ntasks = [1]", "`tasks` is a list"),
    "tasks is None": (f"{IMPORTS}config = KIND()\ntasks = None", "`tasks` is a NoneType"),
    "a group is None": (f"{IMPORTS}config = KIND(data=None)", "data = None should be of the kind"),
    "a group is a dict": (f"{IMPORTS}config = KIND(optim={{}})", "optim = {} should be of the kind Optim"),
    "a group is another group": (f"{IMPORTS}config = KIND(optim=Model())", "should be of the kind Optim"),
    "a group is a class": (f"{IMPORTS}config = KIND(optim=Optim)", "should be of the kind Optim"),
    "a word for a number": (
        f"{IMPORTS}config = KIND(optim=Optim(learning_rate='1e-3'))",
        "optim: learning_rate = '1e-3'",
    ),
    "None for a number": (
        f"{IMPORTS}config = KIND(optim=Optim(epsilon=None))",
        "optim: epsilon = None should be of the",
    ),
    "a fraction": (
        f"{IMPORTS}config = KIND(optim=Optim(micro_batches=2.0))",
        "micro_batches = 2.0 should be of the kind int",
    ),
    "true for a number": (f"{IMPORTS}config = KIND(optim=Optim(micro_batches=True))", "should be of the kind int"),
    "a number for true": (f"{IMPORTS}config = KIND(data=GROUP(pack=1))", "pack = 1 should be of the kind bool"),
    "a word that is unknown": (f"{IMPORTS}config = KIND(optim=Optim(name='adam'))", "did you mean adamw?"),
    "a list for a word": (f"{IMPORTS}config = KIND(optim=Optim(name=['adamw']))", "name = ['adamw'] is unknown"),
    "a number of 5,000 digits": (f"{IMPORTS}config = KIND(optim=Optim(micro_batches=10**5000))", "digits"),
    "a negative one": (f"{IMPORTS}config = KIND(optim=Optim(micro_batches=-10**5000))", "digits"),
    "a generator": (f"{IMPORTS}config = KIND(optim=Optim(clip_norm=(x for x in 'ab')))", "should be of the kind float"),
    "a very long text": (f"{IMPORTS}config = KIND(optim=Optim(name='x' * 10**6))", "characters) is unknown"),
    "a field that is missing": (f"{IMPORTS}config = KIND(optim=Optim(rate=1))", "unexpected keyword argument 'rate'"),
    "NaN": (
        f"{IMPORTS}config = KIND(optim=Optim(epsilon=float('nan')))",
        "optim.epsilon = nan must be a finite number",
    ),
}
KINDS = {
    "pretrain": ("Pretrain", "Data", "--data.corpus corpus --data.tokenizer tokenizer --workdir run"),
    "finetune": ("Finetune", "Examples", "--data task.csv --init hf --workdir run"),
    "search": ("Search", "Data", "--data.corpus corpus --data.tokenizer tokenizer --workdir run"),
}


@pytest.mark.parametrize("job", KINDS)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_cannot_be_used_is_named(name, job, bench):
    (content, said), (kind, group, options) = RECIPES[name], KINDS[job]
    if isinstance(content, str):
        content = content.replace("KIND", kind).replace("GROUP", group).encode()
    (bench.here / "mine.py").write_bytes(content)
    line = bench.refuses(f"{job} mine.py {options}", said)
    assert "mine.py" in line or name == "NaN"


@pytest.mark.parametrize("job", KINDS)
@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "mine.py"),
        (lambda path: path.symlink_to("mine.py"), "mine.py"),
        (lambda path: path.symlink_to("/unmounted/mine.py"), "mine.py"),
    ],
    ids=["missing", "a folder", "a link to itself", "a dead link"],
)
def test_a_recipe_that_is_no_file_is_named(made, said, job, bench):
    made(bench.here / "mine.py")
    bench.refuses(f"{job} mine.py {KINDS[job][2]}", "mine.py", said)


@pytest.mark.parametrize("job", KINDS)
def test_a_recipe_that_may_not_be_read_is_named(job, bench, not_root):
    (bench.here / "mine.py").write_text("config = 1")
    (bench.here / "mine.py").chmod(0)
    bench.refuses(f"{job} mine.py {KINDS[job][2]}", "mine.py", "Permission denied")


@pytest.mark.parametrize("job", KINDS)
def test_lists_in_a_recipe_are_as_good_as_tuples(job, bench):
    """Frozen configs are keys of caches, and a list in one cannot be."""
    from bertlite_jax.config import files

    field = {"finetune": "folder='x'"}.get(job, "buckets=[64, 128]")
    kind, group, _ = KINDS[job]
    (bench.here / "mine.py").write_text(f"{IMPORTS}config = {kind}(data={group}({field}))")
    hash(files.load_file("mine.py"))
