"""The masking rule (`train/pretraining/masking.py`), one token at a time."""


def words_by_run(tokens, types, starts, members, scheme, special):
    """Places of every word, in lists of runs, for the window whose places are `members`."""
    runs = []
    for place in members:
        if tokens[place] in special:
            continue
        before = place - 1
        unbroken = before in members and tokens[before] not in special and types[before] == types[place]
        if not unbroken:
            runs.append([])
        if not unbroken or starts[place] or scheme == "token":
            runs[-1].append([])
        runs[-1][-1].append(place)
    return runs


def spans_of_run(words, lengths, scheme):
    """Neighbouring words of a run, joined; the lengths are read in turn at the first tokens of the run's words."""
    remaining, spans = list(words), []
    while remaining:
        span_words = lengths[words[len(spans)][0]] if scheme == "ngram" else 1
        spans.append(remaining[:span_words])
        remaining = remaining[span_words:]
    return spans


def chosen_by_hand(draws, tokens, segments, types, starts, config, special):
    """The set of places that are predicted."""
    chosen = set()
    for window in range(1, max(segments) + 1):
        members = [place for place, segment in enumerate(segments) if segment == window]
        budget = max(1, round(config.rate * len(members)))
        runs = words_by_run(tokens, types, starts, members, config.scheme, special)
        spans = [span for run in runs for span in spans_of_run(run, draws.span_words, config.scheme)]
        spans.sort(key=lambda span: draws.priority[span[0][0]])  # stable: equals stay in text order
        walk = [word for span in spans for word in span]
        if walk and all(len(word) > budget for word in walk):
            chosen.update(walk[0][:budget])
        for word in walk:
            if len(word) <= budget:
                chosen.update(word)
                budget -= len(word)
    return chosen


def masked_by_hand(draws, tokens, chosen, config, mask_id):
    """Inputs, positions, labels, replaced: without the unused slots."""
    inputs, positions = list(tokens), sorted(chosen)
    for place in positions:
        if draws.share[place] < config.mask_share:
            inputs[place] = mask_id
        elif draws.share[place] < config.mask_share + config.random_share:
            inputs[place] = draws.substitute[place]
    replaced = [draws.share[place] < config.mask_share for place in positions]
    return inputs, positions, [tokens[place] for place in positions], replaced
