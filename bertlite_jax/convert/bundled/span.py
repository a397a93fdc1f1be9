"""The answer of a question-answering model: the part of the pair (context) that answers the text (question)."""


def answer(item, row, outputs, tokenizer, about):
    """{"answer": text, "score": sum of both logits, "start": first character, "end": end}; at most 30 pieces."""
    starts, ends = outputs["start_logits"], outputs["end_logits"]
    inside = [n for n, sequence in enumerate(row.sequence_ids) if sequence == 1]
    scores = [(float(starts[a] + ends[b]), a, b) for a in inside for b in inside if a <= b < a + 30]
    score, a, b = max(scores, default=(0.0, 0, 0))
    start, end = row.offsets[a][0], row.offsets[b][1]
    return {"answer": item["pair"][start:end], "score": score, "start": start, "end": end}
