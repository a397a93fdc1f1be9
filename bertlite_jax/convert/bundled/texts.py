"""What most models read: a text or a pair of texts."""


def read(item, about):
    """[text] or [(text, pair)]; ValueError if the input is neither."""
    text, pair = item.get("text"), item.get("pair")
    if not isinstance(text, str) or not isinstance(pair, (str, type(None))):
        raise ValueError('an input of this model is {"text": "..."} or {"text": "...", "pair": "..."}')
    return [text if pair is None else (text, pair)]
