"""What is in an epoch's rows adds up to the corpora."""

import itertools
import warnings

import numpy as np
import pytest
import thorough
from corpus_rows import epoch, opened, segments_of

from bertlite_jax.config.pretrain import Data
from bertlite_jax.data.rows import batches, source

# --- Epochs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [True, False])
def test_an_epoch_holds_every_window_once(corpus, pack):
    opened_source = opened(corpus, pair_task="none", pack=pack)
    for number in (0, 2):
        found = sorted(a for a, _ in epoch(opened_source, number))
        assert found == sorted(window["tokens"].tolist() for window in corpus[1])


def test_with_pairs_an_epoch_holds_every_token_once_and_swaps_keep_them(corpus):
    """Put in order again, A and B are a stretch of their window; the stretches make up all windows."""
    opened_source = opened(corpus)
    rows = np.arange(source.rows_per_epoch(opened_source))
    batch = batches.rows_at(opened_source, rows)
    _, windows, _ = source.windows_of(opened_source, rows)
    labels = [
        (int(label), int(window))
        for label, window in zip(batch["pair_labels"][windows >= 0], windows[windows >= 0], strict=True)
    ]
    stretches: dict[int, list[list[int]]] = {}
    for (a, b), (label, window) in zip(segments_of(batch), labels, strict=True):
        stretches.setdefault(window, []).append(b + a if label == 1 else a + b)
    assert sorted(stretches) == list(range(len(corpus[1])))
    for window, found in stretches.items():
        tokens = corpus[1][window]["tokens"].tolist()
        assert len(found) <= 2
        assert tokens in ([token for part in order for token in part] for order in itertools.permutations(found))


def test_epochs_differ_in_order_and_in_cuts_but_not_in_their_number_of_rows(corpus):
    opened_source = opened(corpus)
    first, second_epoch = epoch(opened_source, 0), epoch(opened_source, 1)
    assert first != second_epoch
    assert len(first) == len(second_epoch)
    assert len(set(map(str, first)) & set(map(str, second_epoch))) < len(first) / 2


def test_rows_are_filled(corpus):
    opened_source = opened(corpus)
    batch = batches.rows_at(opened_source, np.arange(source.rows_per_epoch(opened_source)))
    assert (batch["segments"] > 0).mean() >= 0.98


def test_labels_are_balanced_and_the_share_is_reported(corpus):
    for task, classes in (("sop", 2), ("nsp", 2), ("three_way", 3)):
        found = batches.pair_statistics(opened(corpus, pair_task=task, batch_rows=128), 8)
        assert found["pairs"] > 700
        assert found["weight_zero_share"] < 0.05
        # Five standard deviations of a share of at least 700 pairs are 0.09.
        assert all(abs(share - 1 / classes) < 0.09 for share in found["label_shares"].values())


# --- Several corpora -------------------------------------------------------------------------------------------------


def test_without_weights_an_epoch_holds_every_window_of_every_corpus_once(corpus, second):
    opened_source = opened(corpus, folders=(corpus[0], second[0]), pair_task="none")
    windows = [window["tokens"].tolist() for window in corpus[1] + second[1]]
    assert sorted(a for a, _ in epoch(opened_source)) == sorted(windows)


def test_weights_are_the_shares_of_windows_and_no_window_is_left_out(corpus, second):
    """Weights 1:3 for a large and a small corpus: the small one is seen again and again, the large one in turns."""
    opened_source = opened(corpus, folders=(corpus[0], second[0]), weights=(1.0, 3.0), pair_task="none")
    total = len(corpus[1]) + len(second[1])
    large = {str(window["tokens"].tolist()) for window in corpus[1]}
    seen, counts = set(), []
    for number in range(6):
        found = [str(a) for a, _ in epoch(opened_source, number)]
        counts.append((sum(text in large for text in found), len(found)))
        seen |= set(found)
    share = sum(count for count, _ in counts) / sum(count for _, count in counts)
    assert abs(share - 0.25) < 0.01
    assert abs(counts[0][1] / total - 1) < 0.02
    # Of the large corpus 6 epochs take 6 * total / 4 windows, more than it has, so each was seen.
    assert 6 * total / 4 > len(corpus[1]) + 200
    assert large <= seen


# --- Real text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", thorough.but([512], [128, 512]))
@pytest.mark.parametrize(
    "vocabulary", thorough.but(["bert_cased_vocab.txt"], ["bert_cased_vocab.txt", "albert_spiece.model"])
)
def test_on_real_text_rows_are_full_and_edges_tell_nothing(shared, tmp_path, vocabulary, length):
    """Two megabytes of Wikipedia. The rule is the best table of the four edges' punctuation, capitals and digits."""
    from bertlite_jax.config.text import CorpusOptions
    from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary
    from bertlite_jax.jobs.text.corpus import build_corpus

    with open(shared / "pretrain" / "enwiki_train.txt", encoding="utf-8") as lines:
        text = "".join(itertools.islice(lines, 8_000))
    (tmp_path / "text.txt").write_text(text[: text.rindex("\n\n")], encoding="utf-8")
    adopt_vocabulary(shared / "vocab" / vocabulary, tmp_path / "tokenizer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build_corpus(
            [str(tmp_path / "text.txt")],
            str(tmp_path / "tokenizer"),
            str(tmp_path / "corpus"),
            CorpusOptions(length=length),
            workers=1,
        )
    data = Data(corpus=(str(tmp_path / "corpus"),), tokenizer=str(tmp_path / "tokenizer"), length=length)
    opened_source = source.open_source(data, "train", 0)
    found = batches.pair_statistics(opened_source, 60 if length == 128 else 30)
    assert found["pairs"] > 7_500
    assert found["weight_zero_share"] < 0.12
    assert abs(found["label_shares"]["1"] - 0.5) < 0.03
    assert found["edge_rule_accuracy"] <= 0.55
    rows = batches.rows_at(opened_source, np.arange(source.rows_per_epoch(opened_source)))
    assert (rows["segments"] > 0).mean() >= 0.98
