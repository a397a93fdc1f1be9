"""What tokenizer_config.json asks for beyond the ids of single texts, which models here do otherwise: named or refused.

From public trackers: huggingface/transformers #15440, PR #12913, huggingface/autotrain-advanced #476 (long texts lose
their beginning); huggingface/optimum #1500 (no token types).
"""

from __future__ import annotations

import pytest
from tokenizer_folders import vocab_txt, wordpiece, write_folder
from tokenizers import processors

from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary
from bertlite_jax.errors import UserError

WITHOUT_TYPES = ["input_ids", "attention_mask"]


@pytest.mark.parametrize("form", [vocab_txt, wordpiece])
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"truncation_side": "left"}, "long texts lose their end, not their beginning"),
        ({"truncation_side": "right"}, ""),
        ({"model_input_names": WITHOUT_TYPES}, "model_input_names has no token_type_ids"),
        ({"model_input_names": [*WITHOUT_TYPES, "token_type_ids"]}, ""),
        ({"auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}, "auto_map names code of the folder's own"),
        ({}, ""),
    ],
)
def test_a_setting_that_changes_other_answers_is_named(form, settings, named, tmp_path, caplog):
    adopt_vocabulary(form(tmp_path / "hf", **settings), tmp_path / "ours")
    assert (named in caplog.text) if named else caplog.text == ""


@pytest.mark.parametrize("model", [{"model_type": "distilbert"}, {"model_type": "bert", "type_vocab_size": 1}])
def test_a_model_without_a_second_type_needs_no_token_types(model, tmp_path, caplog):
    folder = vocab_txt(tmp_path / "hf", files={"config.json": model}, model_input_names=WITHOUT_TYPES)
    adopt_vocabulary(folder, tmp_path / "ours")
    assert caplog.text == ""


@pytest.mark.parametrize(("second", "named"), [("$B:1 [SEP]:1", False), ("$B [SEP]", True)])
def test_a_file_that_gives_both_texts_of_a_pair_one_type_is_named(second, named, tmp_path, caplog):
    def change(tokenizer) -> None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair=f"[CLS] $A [SEP] {second}", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )

    adopt_vocabulary(wordpiece(tmp_path / "hf", change=change), tmp_path / "ours")
    assert ("its post_processor gives both texts of a pair the type 0" in caplog.text) == named


@pytest.mark.parametrize(
    "settings",
    [{"word_tokenizer_type": "mecab"}, {"subword_tokenizer_type": "character", "word_tokenizer_type": "basic"}],
)
def test_words_that_another_program_finds_are_refused(settings, tmp_path):
    """Folders of cl-tohoku's BERT that were saved before classes were named: the vocabulary is one of MeCab's words."""
    folder = vocab_txt(tmp_path / "hf", do_lower_case=False, **settings)
    with pytest.raises(UserError, match=r"as of a BertJapaneseTokenizer, which finds words in another way"):
        adopt_vocabulary(folder, tmp_path / "ours")
    usual = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "wordpiece"}
    write_folder(tmp_path / "hf", None, None, **usual)
    adopt_vocabulary(tmp_path / "hf", tmp_path / "ours")
