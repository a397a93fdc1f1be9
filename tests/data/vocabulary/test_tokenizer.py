"""The tokenizer gives Hugging Face's ids, knows where words start, and never passes for more than it is."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2

from bertlite_jax.data.vocabulary import word_starts
from bertlite_jax.data.vocabulary.tokenizer import (
    Tokenizer,
    adopt_vocabulary,
    load_tokenizer,
    sentencepiece_charsmap,
    sentencepiece_pieces,
    train_tokenizer,
)
from bertlite_jax.errors import UserError

transformers = pytest.importorskip("transformers")

ENGLISH = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must want a wife.",
    "However little known the feelings or views of such a man may be on his first entering a neighbourhood,",
    "this truth is so well fixed in the minds of the surrounding families, that he is considered the rightful property",
    'of some one or other of their daughters. "My dear Mr. Bennet," said his lady to him one day, "have you heard',
    "that Netherfield Park is let at last?" + " Mr. Bennet replied that he had not. (In 1813, or 1,000 years ago.)",
) * 4


def real_lines(*paths: pathlib.Path, most: int) -> list[str]:
    """The first `most` lines of each file that are not blank."""
    lines = []
    for path in paths:
        text = path.read_text(encoding="utf-8").split("\n")
        lines += [line for line in text if line.strip()][:most]
    return lines


@pytest.fixture(scope="session")
def english(shared: pathlib.Path) -> list[str]:
    """Some 3,900 paragraphs: encyclopedia, novels, speeches, and Chinese in between."""
    quickstart = sorted((shared / "quickstart" / "en").glob("*.txt"))
    names = ("enwiki_valid.txt", "books_valid.txt")
    lines = real_lines(*(shared / "pretrain" / name for name in names), *quickstart, most=900)
    return lines + real_lines(shared / "pretrain" / "zhwiki_valid.txt", most=100)


@pytest.fixture(scope="session")
def chinese(shared: pathlib.Path) -> list[str]:
    """Some 2,300 paragraphs, traditional and simplified."""
    paths = shared / "pretrain" / "zhwiki_valid.txt", shared / "quickstart" / "zh" / "hongloumeng_1_10.txt"
    return real_lines(*paths, most=3000)


@pytest.fixture(scope="session")
def albert(shared: pathlib.Path, tmp_path_factory) -> Tokenizer:
    return adopt_vocabulary(shared / "vocab" / "albert_spiece.model", tmp_path_factory.mktemp("a") / "albert")


@pytest.fixture(scope="session")
def uncased(shared: pathlib.Path, tmp_path_factory) -> Tokenizer:
    return adopt_vocabulary(shared / "vocab" / "bert_uncased_vocab.txt", tmp_path_factory.mktemp("u") / "uncased")


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> dict[str, Tokenizer]:
    """One tokenizer of each kind, learnt from a few sentences."""
    folder = tmp_path_factory.mktemp("trained")
    sizes = {"sentencepiece": 110, "wordpiece": 150, "bpe": 400}
    return {kind: train_tokenizer(ENGLISH, folder / kind, size, kind=kind) for kind, size in sizes.items()}


def transformers_albert(model: bytes, **settings):
    """ALBERT's fast tokenizer as transformers' `AlbertConverter` makes it of a .model: pieces that end in digit and
    comma lose 100.
    """
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    scores = [(p.piece, p.score - 100 * bool(re.search(r"\d,$", p.piece))) for p in proto.pieces]
    charsmap = proto.normalizer_spec.precompiled_charsmap
    return transformers.AlbertTokenizer(vocab=scores, _spm_precompiled_charsmap=charsmap, **settings)


def theirs(tokenizer, lines: list[str]) -> list[list[int]]:
    return tokenizer(lines, add_special_tokens=False, verbose=False)["input_ids"]


def ours(tokenizer: Tokenizer, lines: list[str]) -> list[list[int]]:
    return [ids.tolist() for ids, _ in tokenizer.encode_lines(lines)]


def spans(tokenizer: Tokenizer, text: str) -> list[tuple[str, str]]:
    """Each piece beside the text that it stands for."""
    ids, starts, ends = tokenizer.encode_with_offsets(text)
    return [(piece, text[start:end]) for piece, start, end in zip(tokenizer.pieces(ids), starts, ends, strict=True)]


# --- The same ids as Hugging Face --------------------------------------------------------------------------------


def test_albert_gives_the_ids_of_transformers_on_real_text(albert, shared, english):
    reference = transformers_albert((shared / "vocab" / "albert_spiece.model").read_bytes())
    assert len(english) > 3000
    assert ours(albert, english) == theirs(reference, english)


@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_wordpiece_gives_the_ids_of_transformers_on_real_text(name, shared, english, tmp_path):
    vocab = shared / "vocab" / f"bert_{name}_vocab.txt"
    reference = transformers.BertTokenizerFast(vocab=str(vocab), do_lower_case=name == "uncased")
    assert ours(adopt_vocabulary(vocab, tmp_path / name), english) == theirs(reference, english)


@pytest.mark.parametrize("lower", [True, False])
def test_chinese_wordpiece_gives_the_ids_of_transformers_on_real_text(lower, shared, chinese, tmp_path):
    vocab = shared / "vocab" / "bert_chinese_vocab.txt"
    reference = transformers.BertTokenizerFast(vocab=str(vocab), do_lower_case=lower)
    assert len(chinese) > 1000
    assert ours(adopt_vocabulary(vocab, tmp_path / "zh", lower=lower), chinese) == theirs(reference, chinese)


@pytest.mark.parametrize("kind", ["albert", "uncased"])
def test_every_character_below_3000_hex_is_treated_as_in_transformers(kind, request, shared):
    """Controls, odd spaces, accents, quotes, ligatures, fractions, Greek, Hebrew, Arabic, Indic, Thai, symbols."""
    model = shared / "vocab" / "albert_spiece.model"
    vocab = shared / "vocab" / "bert_uncased_vocab.txt"
    reference = (
        transformers_albert(model.read_bytes()) if kind == "albert" else transformers.BertTokenizerFast(str(vocab))
    )
    lines = [f"x{chr(code)}yes {chr(code)}" for code in range(1, 0x3000)]
    mine, other = ours(request.getfixturevalue(kind), lines), theirs(reference, lines)
    assert [hex(code) for code, (a, b) in enumerate(zip(mine, other, strict=True), start=1) if a != b] == []


@pytest.mark.parametrize("settings", [{"keep_accents": True}, {"lower": False, "keep_accents": True}, {}])
def test_a_trained_model_gives_the_ids_of_transformers_under_every_setting(settings, tmp_path):
    text = [*ENGLISH, "Größe und Übermaß, Straße; ÉTÉ, ΣΟΦΟΣ ``so''.", "Во 2010, году", "한국어 문장"] * 2
    mine = train_tokenizer(text, tmp_path / "t", 130, **settings)
    names = {"lower": "do_lower_case", "keep_accents": "keep_accents"}
    reference = transformers.AlbertTokenizer(
        vocab=sentencepiece_pieces(mine.folder),
        _spm_precompiled_charsmap=sentencepiece_charsmap(mine.folder),
        **{names[key]: value for key, value in settings.items()},
    )
    lines = text if settings else text[:-1]  # Without accents Hangul falls apart, into other parts there than here.
    lines = [line for line in lines if settings or "한" not in line]
    assert ours(mine, lines) == theirs(reference, lines)


def test_a_number_and_the_comma_behind_it_are_two_pieces(albert):
    """The vocabulary has ▁2010, as one piece; no other digit-comma ending survives either."""
    assert albert.pieces(albert.encode("in 2010, he")) == ["▁in", "▁2010", ",", "▁he"]
    assert albert.pieces(albert.encode("3.0,")) == ["▁3", ".", "0", ","]
    scores = dict(sentencepiece_pieces(albert.folder))
    assert scores["▁2010,"] == pytest.approx(-109.6236, abs=1e-3)  # -9.6236 in the file
    assert scores[","] == pytest.approx(-3.1902, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # google-research/bert, tokenization_test.py
        ("UNwant\u00e9d,running", ["un", "##want", "##ed", ",", "runn", "##ing"]),
        ("ah\u535a\u63a8zz", ["ah", "\u535a", "\u63a8", "zz"]),
        (" \tHeLLo!how  \n Are yoU?  ", ["hello", "!", "how", "are", "you", "?"]),
        ("H\u00e9llo", ["hello"]),
        ("unwantedX running", ["[UNK]", "runn", "##ing"]),
    ],
)
def test_wordpiece_passes_the_unit_tests_of_the_bert_release(text, words, tmp_path):
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ","]
    vocab += ["ah", "\u535a", "\u63a8", "zz", "hello", "!", "how", "are", "you", "?"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    tokenizer = adopt_vocabulary(tmp_path / "vocab.txt", tmp_path / "t")
    assert tokenizer.pieces(tokenizer.encode(text)) == words


# --- Special pieces --------------------------------------------------------------------------------------------------


def test_albert_layout_of_the_special_ids(albert, trained):
    assert albert.special_ids == trained["sentencepiece"].special_ids == (0, 1, 2, 3, 4)
    assert trained["sentencepiece"].pieces(range(5)) == ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]


def test_bert_vocabularies_keep_their_own_special_ids(uncased):
    assert uncased.special_ids == (0, 100, 101, 102, 103)  # lines of the published vocab.txt


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bpe"])
def test_a_mask_written_in_the_text_is_text_unless_it_is_asked_for(kind, trained):
    tokenizer = trained[kind]
    mask = tokenizer.pieces([tokenizer.mask_id])[0]
    text = f"a single {mask} in want"
    plain = tokenizer.encode(text)
    assert not set(plain.tolist()) & (set(tokenizer.special_ids) - {tokenizer.unk_id})
    asked = tokenizer.encode(text, allow_special=True).tolist()
    before, after = tokenizer.encode("a single"), tokenizer.encode(" in want")
    assert asked == [*before, tokenizer.mask_id, *after]


def test_mask_ids_are_those_of_transformers(albert, uncased, shared):
    text = "the [MASK] of france is paris, [MASK] say"
    reference = transformers_albert((shared / "vocab" / "albert_spiece.model").read_bytes())
    assert albert.encode(text, allow_special=True).tolist() == theirs(reference, [text])[0]
    reference = transformers.BertTokenizerFast(str(shared / "vocab" / "bert_uncased_vocab.txt"))
    assert uncased.encode(text, allow_special=True).tolist() == theirs(reference, [text])[0]


# --- Word starts -----------------------------------------------------------------------------------------------------

# google-research/albert, create_pretraining_data.py, run on these pieces.
START_PIECES = {"▁the": 1, "ing": 0, "19": 1, "2": 1, "a1": 1, ",": 1, ".": 1, "-": 1, "...": 0, "'s": 1, "é": 1}
START_PIECES |= {"中": 1, "<unk>": 1, "▁": 1, "Ing": 0, "'": 1, "=": 1, "e.g": 0, "£": 1}


@pytest.mark.parametrize(("piece", "starts"), START_PIECES.items())
def test_start_pieces_of_the_albert_release(piece, starts):
    assert word_starts.is_start_piece(piece, "ascii") == bool(starts)


@pytest.mark.parametrize(("piece", "starts"), [*START_PIECES.items(), ("ция", 0), ("größ", 0), ("คำ", 1), ("カナ", 1)])
def test_letters_of_spaced_scripts_continue_words_in_trained_vocabularies(piece, starts):
    starts = 0 if piece == "é" else starts  # the one entry of the release's table that is about a letter
    assert word_starts.is_start_piece(piece, "unicode") == bool(starts)


def test_word_starts_follow_the_pieces_of_each_kind(albert, uncased):
    for tokenizer in (albert, uncased):
        ids, starts = tokenizer.encode_lines(["unaffable 2010, wordplayers"])[0]
        pieces = tokenizer.pieces(ids)
        first = [not p.startswith("##") if tokenizer is uncased else p.startswith("▁") or p == "," for p in pieces]
        assert starts.tolist() == first
        assert 4 <= sum(first) < len(pieces)
        assert tokenizer.word_starts(ids).tolist() == first


def test_byte_level_words_start_at_spaces_and_punctuation(trained):
    ids, starts = trained["bpe"].encode_lines(["universally acknowledged, wife"])[0]
    pieces = trained["bpe"].pieces(ids)
    assert [piece.startswith("Ġ") or piece == "," for piece in pieces] == starts.tolist()
    assert starts.sum() == 4 < len(pieces)


def test_a_line_always_begins_with_a_word_start(trained, tmp_path):
    """Also where a byte-level vocabulary puts no space before the first word, as RoBERTa's."""
    file = json.loads((pathlib.Path(trained["bpe"].folder) / "tokenizer.json").read_text(encoding="utf-8"))
    file["pre_tokenizer"]["add_prefix_space"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    tokenizer = adopt_vocabulary(tmp_path, tmp_path / "t")
    ids, starts = tokenizer.encode_lines(["wife wife"])[0]
    assert not tokenizer.pieces(ids)[0].startswith("Ġ")
    assert starts[0]
    assert not tokenizer.word_starts(ids)[0]


@pytest.fixture
def chinese_words(shared, tmp_path) -> Tokenizer:
    pytest.importorskip("jieba")
    vocab = shared / "vocab" / "bert_chinese_vocab.txt"
    return adopt_vocabulary(vocab, tmp_path / "zh", word_segmenter="jieba")


def test_jieba_says_where_chinese_words_start(chinese_words):
    """我 | 来到 | 北京 | 清华大学: the example of jieba's own README. English words keep their pieces together."""
    ids, starts = chinese_words.encode_lines(["我来到北京清华大学 unaffable 3.14"])[0]
    pieces = chinese_words.pieces(ids)
    words = ["".join(pieces[a:b]).replace("##", "") for a, b in zip(*bounds(starts), strict=True)]
    assert words == ["我", "来到", "北京", "清华大学", "unaffable", "3", ".", "14"]
    assert chinese_words.settings["word_segmenter"] == "jieba"


def bounds(starts: np.ndarray) -> tuple[list[int], list[int]]:
    first = np.flatnonzero(starts).tolist()
    return first, [*first[1:], len(starts)]


def test_a_missing_jieba_is_one_line_with_the_command_that_installs_it(shared, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(UserError, match=re.escape('pip install "bertlite_jax[zh]"')) as caught:
        adopt_vocabulary(shared / "vocab" / "bert_chinese_vocab.txt", tmp_path / "zh", word_segmenter="jieba")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "zh").exists()


# --- Offsets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Beyoncé sang", [("▁beyonce", "Beyoncé"), ("▁sang", "sang")]),
        ("Beyonce\u0301 sang", [("▁beyonce", "Beyonce\u0301"), ("▁sang", "sang")]),
        ("the ﬁne art", [("▁the", "the"), ("▁fine", "ﬁne"), ("▁art", "art")]),
        ("in １９９９.", [("▁in", "in"), ("▁1999", "１９９９"), (".", ".")]),
        ("a  \t\u3000b", [("▁a", "a"), ("▁b", "b")]),
        ("…", [("▁", "…"), (".", "…"), (".", "…"), (".", "…")]),
        ("``a''", [("▁", "``"), ('"', "``"), ("a", "a"), ('"', "''")]),
    ],
)
def test_albert_offsets_point_into_the_original_text(albert, text, expected):
    assert spans(albert, text) == expected


def test_wordpiece_offsets_point_into_the_original_text(uncased):
    assert spans(uncased, "Beyoncé\u00a0 playing  １２，\x00x") == [
        ("beyonce", "Beyoncé"),
        ("playing", "playing"),
        ("[UNK]", "１２"),
        ("，", "，"),
        ("x", "x"),
    ]
    ids, starts, ends = uncased.encode_with_offsets("unaffable")
    assert len(ids) > 1
    assert starts[0] == 0
    assert ends[-1] == 9
    assert starts[1:].tolist() == ends[:-1].tolist()


@pytest.mark.parametrize("kind", ["albert", "uncased", "bpe"])
def test_offsets_come_with_the_same_ids_and_never_go_back(kind, request, english):
    tokenizer = request.getfixturevalue("trained")["bpe"] if kind == "bpe" else request.getfixturevalue(kind)
    lines = english[::5]
    for line, (expected, _) in zip(lines, tokenizer.encode_lines(lines), strict=True):
        ids, starts, ends = tokenizer.encode_with_offsets(line)
        assert ids.tolist() == expected.tolist()
        assert (starts <= ends).all()
        assert (np.diff(starts) >= 0).all()
        assert (np.diff(ends) >= 0).all()
        assert ends.max(initial=0) <= len(line)


def test_byte_level_offsets_leave_the_space_out(trained):
    pieces = spans(trained["bpe"], "the wife")
    assert "".join(text for _, text in pieces) == "thewife"


# --- Training --------------------------------------------------------------------------------------------------------

TRAIN = """
import sys, tests.data.vocabulary.test_tokenizer as here
from bertlite_jax.data.vocabulary import tokenizer
for kind, size in (("sentencepiece", 100), ("wordpiece", 140), ("bpe", 350)):
    tokenizer.train_tokenizer(here.ENGLISH, f"{sys.argv[1]}/{kind}", size, kind=kind, input_sentences=15)
"""


def digests(folder: pathlib.Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_text_gives_the_same_bytes_in_another_process(tmp_path):
    """Hash seeds differ between processes, in Python and in Rust."""
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", TRAIN, str(tmp_path / seed)], check=True, env=environment)
    first, second = digests(tmp_path / "1"), digests(tmp_path / "2")
    assert len(first) == 6
    assert first == second


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bpe"])
def test_too_large_a_vocabulary_is_refused_with_the_largest_that_works(kind, tmp_path, capfd):
    with pytest.raises(UserError, match="the largest that works is") as caught:
        train_tokenizer(ENGLISH, tmp_path / "t", 100_000, kind=kind)
    assert "\n" not in str(caught.value)
    largest = int(str(caught.value).split()[-1])
    assert train_tokenizer(ENGLISH, tmp_path / "t", largest, kind=kind).vocab_size == largest
    with pytest.raises(UserError, match=f"the largest that works is {largest}"):
        train_tokenizer(ENGLISH, tmp_path / "u", largest + 1, kind=kind)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bpe"])
def test_too_small_a_vocabulary_is_refused_with_the_smallest_that_has_room(kind, tmp_path):
    with pytest.raises(UserError, match="the smallest that works is"):
        train_tokenizer(ENGLISH, tmp_path / "t", 20, kind=kind)


@pytest.mark.parametrize("size", [0, -5])
def test_a_size_that_is_none_is_refused(size, tmp_path):
    with pytest.raises(UserError, match=f"vocab_size = {size} must be positive"):
        train_tokenizer(ENGLISH, tmp_path / "t", size)


def test_a_folder_that_cannot_be_made_is_refused_before_the_text_is_read(tmp_path):
    def lines():
        yield pytest.fail("the text was read")

    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/t cannot be written: File exists; name another place"):
        train_tokenizer(lines(), tmp_path / "file" / "t", 1000)


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bpe"])
def test_no_text_is_refused(kind, tmp_path):
    with pytest.raises(UserError, match="no text"):
        train_tokenizer(["", " \n"], tmp_path / "t", 1000, kind=kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bpe"])
def test_what_goes_wrong_while_reading_the_text_comes_through(kind, tmp_path):
    def lines():
        yield from ENGLISH
        raise UserError("text: notes.txt:1204: invalid UTF-8 (byte 0xff)")

    with pytest.raises(UserError, match=r"notes.txt:1204"):
        train_tokenizer(lines(), tmp_path / "t", 1000, kind=kind)
    assert list(tmp_path.iterdir()) == []


def test_text_far_longer_than_a_sentence_is_learnt_from(tmp_path):
    """SentencePiece itself leaves out lines of more than 4,192 bytes without a word."""
    line = "zebracadabra " * 1000
    tokenizer = train_tokenizer([*ENGLISH, line], tmp_path / "t", 110)
    assert tokenizer.pieces(tokenizer.encode("zebracadabra")) == ["▁zebracadabra"]


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece"])
def test_rare_ascii_characters_are_never_unknown(kind, tmp_path):
    """One 7 among 200,000 characters lies outside the usual coverage of 0.99995; so does one snowman."""
    text = [*ENGLISH * 100, "7 ~ ☃"]
    assert 1 / sum(map(len, text)) < 0.00005
    tokenizer = train_tokenizer(text, tmp_path / "t", 100, kind=kind)
    assert tokenizer.unk_id not in tokenizer.encode("7 ~")
    assert tokenizer.unk_id in tokenizer.encode("☃")


def test_a_killed_training_leaves_nothing_that_passes_for_a_tokenizer(tmp_path):
    script = (
        "import sys, time, tests.data.vocabulary.test_tokenizer as here\n"
        "from bertlite_jax.data.vocabulary import tokenizer, codecs\n"
        "real = tokenizer.load_tokenizer\n"
        "def slow(folder):\n"
        "    real(folder); print('written', flush=True); time.sleep(60)\n"
        "tokenizer.load_tokenizer = slow\n"
        "tokenizer.train_tokenizer(here.ENGLISH, sys.argv[1], 100)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "t")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    with pytest.raises(UserError, match="does not exist"):
        load_tokenizer(tmp_path / "t")
    assert train_tokenizer(ENGLISH, tmp_path / "t", 100).vocab_size == 100


def test_a_tokenizer_that_is_there_is_replaced_only_on_request(tmp_path):
    old = train_tokenizer(ENGLISH, tmp_path / "t", 100)
    with pytest.raises(UserError, match="exists"):
        train_tokenizer(ENGLISH, tmp_path / "t", 110)
    assert load_tokenizer(tmp_path / "t").hash == old.hash
    assert train_tokenizer(ENGLISH, tmp_path / "t", 110, overwrite=True).vocab_size == 110
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(UserError, match="not a tokenizer folder"):
        train_tokenizer(ENGLISH, tmp_path / "notes", 110, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "t"]


# --- Folders ---------------------------------------------------------------------------------------------------------


def test_settings_are_saved_and_decide_the_ids_and_the_hash(shared, tmp_path):
    model = shared / "vocab" / "albert_spiece.model"
    plain = adopt_vocabulary(model, tmp_path / "plain")
    cased = adopt_vocabulary(model, tmp_path / "cased", lower=False)
    assert plain.encode("Paris").tolist() == plain.encode("paris").tolist()
    assert cased.encode("Paris").tolist() != cased.encode("paris").tolist()
    again = load_tokenizer(tmp_path / "cased")
    assert again.settings["lower"] is False
    assert again.encode("Paris").tolist() == cased.encode("Paris").tolist()
    assert plain.hash != cased.hash == again.hash


def test_a_tokenizer_travels_to_another_process_as_its_folder(trained):
    for tokenizer in trained.values():
        data = pickle.dumps(tokenizer)
        assert len(data) < 1000
        assert pickle.loads(data) == tokenizer


def truncate(folder: pathlib.Path) -> None:
    model = folder / "spiece.model"
    model.write_bytes(model.read_bytes()[:-100])


def flip(folder: pathlib.Path) -> None:
    model = folder / "spiece.model"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)


DAMAGES = {
    "does not exist": lambda folder: folder.rename(folder.with_name("elsewhere")),
    "not a tokenizer folder": lambda folder: (folder / "bertlite_tokenizer.json").unlink(),
    "is missing": lambda folder: (folder / "spiece.model").unlink(),
    "not the file that the tokenizer was made with": truncate,
    "its SHA-256 differs": flip,
    "is damaged": lambda folder: (folder / "bertlite_tokenizer.json").write_text('{"format": 1, "kind": "sent'),
    "should have the keys": lambda folder: (folder / "bertlite_tokenizer.json").write_text('{"format": 1}'),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_damaged_folder_is_refused_in_one_line(message, tmp_path):
    train_tokenizer(ENGLISH, tmp_path / "t", 100)
    DAMAGES[message](tmp_path / "t")
    with pytest.raises(UserError, match=message) as caught:
        load_tokenizer(tmp_path / "t")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "t") in str(caught.value)


# --- What others made ------------------------------------------------------------------------------------------------


def test_an_albert_folder_of_transformers_keeps_its_ids(shared, english, tmp_path):
    reference = transformers_albert((shared / "vocab" / "albert_spiece.model").read_bytes())
    reference.save_pretrained(tmp_path / "hf")
    assert not (tmp_path / "hf" / "spiece.model").exists()
    tokenizer = adopt_vocabulary(tmp_path / "hf", tmp_path / "t")
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert tokenizer.vocab_size == 30_000
    assert tokenizer.settings["lower"]
    assert not tokenizer.settings["keep_accents"]
    assert ours(tokenizer, english[::4]) == theirs(reference, english[::4])


def test_a_bert_folder_of_transformers_keeps_its_ids(shared, english, tmp_path):
    vocab = shared / "vocab" / "bert_cased_vocab.txt"
    reference = transformers.BertTokenizerFast(vocab=str(vocab), do_lower_case=False)
    reference.save_pretrained(tmp_path / "hf")
    tokenizer = adopt_vocabulary(tmp_path / "hf", tmp_path / "t")
    assert tokenizer.settings["lower"] is False
    assert tokenizer.settings["keep_accents"] is True
    assert ours(tokenizer, english[::4]) == theirs(reference, english[::4])


def test_a_roberta_folder_of_transformers_keeps_its_ids(trained, english, tmp_path):
    file = json.loads((pathlib.Path(trained["bpe"].folder) / "tokenizer.json").read_text(encoding="utf-8"))
    merges = [tuple(merge) for merge in file["model"]["merges"]]
    mask = transformers.AddedToken("<mask>", lstrip=True)  # as in the published folders
    reference = transformers.RobertaTokenizer(vocab=file["model"]["vocab"], merges=merges, mask_token=mask)
    reference.save_pretrained(tmp_path / "hf")
    tokenizer = adopt_vocabulary(tmp_path / "hf", tmp_path / "t")
    assert tokenizer.kind == "bpe"
    assert tokenizer.pieces(tokenizer.special_ids) == ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    assert ours(tokenizer, english[::4]) == theirs(reference, english[::4])
    text = "the <mask> of"
    assert tokenizer.encode(text, allow_special=True).tolist() == theirs(reference, [text])[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.model", b"no model at all", "no SentencePiece model"),
        ("vocab.txt", b"the\nof\n", "no piece for pad"),
        ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nthe\n", "'the' occurs twice"),
        ("vocab.txt", b"\xff\xfe", "not UTF-8"),
        ("tokenizer.json", b"{}", "no file of the tokenizers library"),
        ("tokenizer.json", b'{"model": {"type": "WordLevel", "vocab": {}}}', "WordLevel"),
    ],
)
def test_a_foreign_file_that_cannot_be_taken_over_is_refused_in_one_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        adopt_vocabulary(tmp_path / name, tmp_path / "t")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "t").exists()


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        adopt_vocabulary(tmp_path / "none.model", tmp_path / "t")
    with pytest.raises(UserError, match=r"holds no tokenizer.json"):
        adopt_vocabulary(tmp_path, tmp_path / "t")


def test_decoded_text_reads_like_the_text(albert, uncased, trained):
    text = "the capital of france is paris, they say."
    for tokenizer in (albert, uncased, trained["bpe"]):
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text
