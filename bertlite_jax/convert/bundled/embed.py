"""The answer of an encoder without a head: the text as a vector."""


def answer(item, row, outputs, tokenizer, about):
    """{"answer": how many numbers, "score": the first, "vector": all}; the product of two vectors is their cosine."""
    vector = [float(x) for x in outputs["sentence_embedding"]]
    return {"answer": len(vector), "score": vector[0], "vector": vector}
