"""What a question-answering model reads and answers."""


def read(item, about):
    """[(question, context)]; ValueError if one of them is missing."""
    question, context = item.get("text", item.get("question")), item.get("pair", item.get("context"))
    if not isinstance(question, str) or not isinstance(context, str):
        raise ValueError('an input of this model is {"text": "the question", "pair": "the text that answers it"}')
    return [(question, context)]


def answer(item, row, outputs, tokenizer, about):
    """{"answer": text, "score": sum of both logits, "start": first character, "end": end}; at most 30 pieces."""
    ((_, context),) = read(item, about)
    starts, ends = outputs["start_logits"], outputs["end_logits"]
    inside = [n for n, sequence in enumerate(row.sequence_ids) if sequence == 1]
    scores = [(float(starts[a] + ends[b]), a, b) for a in inside for b in inside if a <= b < a + 30]
    score, a, b = max(scores, default=(0.0, 0, 0))
    start, end = row.offsets[a][0], row.offsets[b][1]
    return {"answer": context[start:end], "score": score, "start": start, "end": end}
