"""What the tests of corpora share: a vocabulary, a text, the corpus of both."""

import pytest
from corpus_text import LETTERS, some_text

from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary
from bertlite_jax.jobs.text.corpus import build_corpus


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory) -> Tokenizer:
    """A WordPiece vocabulary in which every word of small letters is some pieces."""
    folder = tmp_path_factory.mktemp("tokenizer")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "!", "。"]
    pieces += [prefix + letter for prefix in ("", "##") for letter in LETTERS]
    pieces += ["the", "and", "##ing", "##er", "你", "好", *(str(digit) for digit in range(10))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return adopt_vocabulary(folder / "vocab.txt", folder / "made")


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text("\n\n".join(some_text(400)) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def built(text_file, vocabulary, tmp_path_factory) -> tuple[str, dict]:
    out = str(tmp_path_factory.mktemp("corpora") / "corpus")
    return out, build_corpus([text_file], vocabulary.folder, out, CorpusOptions(length=64), workers=1)
