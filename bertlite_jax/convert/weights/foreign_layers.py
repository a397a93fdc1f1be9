"""Layers of people's taggers that our heads lack: a CRF over the labels, a recurrent layer below them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bertlite_jax.convert.weights.head_choice import HeadChoice
from bertlite_jax.errors import UserError

# kyzhouhzau/BERT-NER and macanv/BERT-BiLSTM-CRF-NER: crf_loss/transition(s); kmkurn/pytorch-crf: crf.transitions,
# crf.start_transitions; TensorFlow Addons and many others: transition_params.
_CRF = re.compile(r"(?:.*[/.])?(?:start_|end_)?transitions?(?:_params|_matrix)?")
# macanv: rnn_layer/bidirectional_rnn/fw/lstm_cell/kernel; Keras: bidirectional/forward_gru/...; PyTorch: weight_ih_l0.
_RECURRENT = re.compile(r"(?:lstm|gru|rnn)_?cell|(?:^|[/._])(?:bi)?(?:lstm|gru)[/._]|weight_[ih]h_l\d", re.IGNORECASE)


def check_layers(beside: Iterable[str], wanted: HeadChoice, where: str) -> str:
    """Refuses to read a head without the layers that it was trained with.

    Args:
      beside: names of the tensors beside the encoder.
      wanted: what the user says of the head.
      where: the folder or checkpoint, for errors.

    Returns:
      A note where a tagger is read without its CRF; else empty.

    Raises:
      UserError: a head is read, and there is a recurrent layer, or a CRF and the user did not ask for a tagger.
    """
    beside = list(beside)
    if wanted == "none":
        return ""
    if recurrent := next(filter(_RECURRENT.search, beside), None):
        raise UserError(
            f"convert: {where}: a recurrent layer ({recurrent}) stands between the encoder and its outputs, and our "
            "heads have none; the import with --head none reads the encoder alone"
        )
    crf = min(filter(_CRF.fullmatch, beside), key=len, default=None)
    if crf is None:
        return ""
    if wanted != "tag":
        raise UserError(
            f"convert: {where}: a CRF chooses the labels ({crf}), and our heads have none; the import with --head tag "
            "reads the tagger without it, each word by itself, and with --head none the encoder alone"
        )
    return f"without its CRF ({crf}), the tagger labels each word by itself"
