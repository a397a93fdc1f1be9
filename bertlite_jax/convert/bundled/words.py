"""The words of a plain text, as a tagger's training data had them."""

import functools
import re
import unicodedata

# Mailboxes and addresses stay whole, without the punctuation that ends a sentence. Lengths are bounded for speed.
ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]{1,15}://|www\.)\S+|[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)
APART = re.compile(rf"{ADDRESS.pattern}|(?<!\S)(?:n['’]t|['’](?:s|re|ve|ll|d|m))(?!\w)", re.IGNORECASE)
ENDINGS = ".,;:!?…'\"’”»)]}>、。，；：！？）」』】"
CLITIC = re.compile(r"(?:n['’]t|['’](?:s|re|ve|ll|d|m))$", re.IGNORECASE)
# These patterns read shapes: A capital, a letter, 9 digit, m mark, C Chinese, p other sign; ASCII signs are themselves.
CORE = "[Aa9][Aa9m]*"
WORD = rf"{CORE}(?:(?:\.?-|['./&]|(?<=9)[,:](?=9)){CORE})*"
PUNCTUATION = re.compile(
    rf"(?:[Aa]\.)+[Aa]\.(?![-Aa9m])|(?<![-'.Aa9m])A\.(?= +[Aa])|(?<![Aa9m])[@#]{WORD}|{WORD}|\.{{2,}}|-{{2,}}|[^ m]m*"
)
SPACES = re.compile("Cm*|[^ mC][^ C]*")
CHARACTERS = re.compile("[^ m]m*")


def split_words(text, splits):
    """[(first character, end)] of each word of a text.

    Words end at white space. `punctuation` in `splits`: signs are words of their own, but not inside a word (don't,
    e-mail, AT&T, and/or), a number (3.14, 1,000, 10:30), an abbreviation or initial (U.S., J. Smith), a mailbox or an
    address, or after @ and #; of ... and -- a run is one word. `chinese`: so is each Chinese character or kana.
    `clitics`: 's, 're, 've, 'll, 'd, 'm and n't are apart from their word. `characters`: all characters are apart.
    """
    chinese = "chinese" in splits
    shape = "".join([shape_of(character, chinese) for character in text])
    if "characters" in splits:
        return [match.span() for match in CHARACTERS.finditer(shape)]
    if "punctuation" not in splits:
        return [match.span() for match in SPACES.finditer(shape)]
    spans, at = [], 0
    for match in [*(APART if "clitics" in splits else ADDRESS).finditer(text), None]:
        start, end = (match.start(), match.start() + len(match[0].rstrip(ENDINGS))) if match else (len(text), len(text))
        if chinese and "C" in shape[start:end]:  # Chinese has no space behind an address.
            end = start + shape[start:end].index("C")
        spans += [found.span() for found in PUNCTUATION.finditer(shape, at, start)]
        spans += [(start, end)] * (end > start)
        at = end
    return [part for span in spans for part in without_clitic(text, *span)] if "clitics" in splits else spans


def without_clitic(text, start, end):
    """The spans of a word and of the clitic at its end."""
    found = CLITIC.search(text, start, end)
    return [(start, found.start()), (found.start(), end)] if found and found.start() > start else [(start, end)]


@functools.cache
def shape_of(character, chinese):
    """What kind of character it is, as one character."""
    kind = unicodedata.category(character)
    if character.isspace():
        return " "
    if kind[0] in "CM" or character == "\ufffd":  # Tokenizers drop controls, so they are no words.
        return "m"
    if kind[0] == "L" and chinese and is_chinese(character):
        return "C"
    if kind[0] == "N":
        return "9"
    if kind[0] == "L" or character == "_":
        return "A" if kind == "Lu" else "a"
    return {"’": "'", "‐": "-", "‑": "-"}.get(character, character if character.isascii() else "p")


def is_chinese(character):
    """Whether it is an ideograph or a kana, which are written without spaces."""
    code = ord(character)
    return 0x3005 <= code <= 0x30FF or 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code < 0x32400
