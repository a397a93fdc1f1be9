"""Awkward texts on which two tokenizers are compared, and the comparison.

Each line has brought out a difference between two implementations somewhere: case, accents, scripts, spaces, controls,
numbers, quotes, long words, and special tokens that stand in the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

_TEXTS = (
    # --- English, case, punctuation
    "The quick brown fox jumps over the lazy dog.",
    "AbC aBc ABC abc McDonald iPhone UNwanted,running",
    "Don't you'll I'm it's o'clock rock'n'roll ’tis “quoted” ‘single’ „low“ «guillemets»",
    "``Curiouser and curiouser!'' cried Alice; `one' ''two'' ```three```",
    "a,b a_b a-b a.b a:b a/b a\\b a|b a+b a=b a*b a&b a%b a#b a$b a@b a^b a~b a!b a?b",
    "(parentheses) [brackets] {braces} <angles> \"quotes\" 'single'",
    "e.g. i.e. U.S.A. Ph.D. Mr. Smith's co-worker... wait—what? no–yes; and/or",
    "http://www.example.com/path?query=1&other=2#part user.name+tag@example.co.uk C:\\dir\\file.txt",
    "snake_case camelCase kebab-case SCREAMING_CASE v1.2.3-beta+build.5 std::vector<int> x->y",
    "!!! ??? ... ,,, --- === *** ### $$$ @@@ ;;; :::",
    "a" * 99,
    "a" * 100 + " " + "b" * 101,
    "x" * 250,
    "ab" * 60 + "," + "cd" * 55,
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    # --- Numbers
    "ab12 and a1 12ab 1a2b3c 007 0 1 10 100 1000",
    "in 2010, he had 1,000,000 and 3.0, or 2,500.75; 5,00 € 12:30 1/2 50% -3 +4 1e-9",
    "2011, 2012,2013 , 9, 50,000, ▁2010,",
    "½ ¼ ³ ² ① ⑩ Ⅳ ⅻ １２３ ４５， 〇 一二三 ٣٤٥ ۱۲۳ ४५६ ๑๒๓",
    "$5 £6 €7 ¥8 ₹9 5°C 6′ 7″ №8 §9 ¶10 ±2 ×3 ÷4 µm Ω Å",
    # --- Accents and letters of European languages
    "Café naïve résumé Beyoncé façade jalapeño Zürich Ångström smørrebrød Łódź",
    "Cafe\u0301 nai\u0308ve re\u0301sume\u0301 A\u030angstro\u0308m a\u0301\u0300\u0302 \u0301 x\u0301",
    "Größe STRASSE Straße ẞ ß Übermaß MÄDCHEN ÀÉÎÕÜ àéîõü çÇ ñÑ øØ đĐ łŁ ıİ ŒœÆæ",
    "İstanbul ISPARTA ılık IĞDIR",
    "ΑΒΓ αβγ ΣΟΦΟΣ σοφός Ὀδυσσεύς ά έ ή ί ό ύ ώ ΐ ΰ",
    "Привет МИР ёлка йод Ёж Їжак ґанок Љубав Ѝ",
    "Tiếng Việt: Nguyễn Phở Đặng ươ ƠƯ",
    "Čeština Žluťoučký kůň ğüşöç ąęśźż őű ķļņ",
    "ﬁne ﬂow oﬃce ﬅ ǅ ĳ ŉ ſ",
    # --- Chinese, Japanese, Korean
    "今天天气很好，我们去北京大学。",
    "博推zz 红楼梦。Apples是苹果 我爱Python3.8和C++",
    "繁體中文測試：「你好嗎？」《紅樓夢》、……——",
    "酒店环境不错,房间很大.服务员态度一般!下次还会来吗?",
    "㐀 䶵 𠀀 𪜀 𫝀 豈 﨑 丽 〇 ㊀ ㈱",
    "ひらがな カタカナ 漢字 ｶﾀｶﾅ ガギグゲゴ がぎぐげご パピプ ー々〆〤",
    "か\u3099ハ\u309a は゛ は゜ 東京タワー",
    "한국어 문장입니다. 안녕하세요? 갂 힣",
    "\u1112\u1161\u11ab \u3131\u314f ㄱㅏ",
    "ㄅㄆㄇ ˊˇˋ",
    # --- Other scripts
    "हिन्दी में लिखा हुआ क़लम ज़ ड़ श्री क्ष",
    "বাংলা ভাষা কোঁ தமிழ் தொ తెలుగు ಕನ್ನಡ മലയാളം ਪੰਜਾਬੀ ગુજરાતી",
    "ක්‍රි ශ්‍රී ලංකා සිංහල",
    "ภาษาไทย น้ำ เก็บ ທ່ານ ខ្មែរ မြန်မာ བོད་ཡིག",
    "العربية مُحَمَّد ﻻ لا ـــ ٱلْكِتَابُ، هل؟",
    "עברית שָׁלוֹם ״ציטוט״ ׳א",
    "فارسی می‌خواهم ک گ پ چ ژ اردو ہے",
    "Հայերեն ქართული ႠႡႢ አማርኛ ᏣᎳᎩ ꭰꭱ ᐃᓄᒃᑎᑐᑦ",
    "Ⴀ ⴀ Ᲊ 𐐀 𐐨 𞤀 ǲ ᾼ ῼ",
    # --- Spaces, lines, controls
    "  leading and trailing  ",
    "two  spaces\ttab\nnew line\r\nboth\rreturn\x0bvertical\x0cform",
    "no\u00a0break\u1680ogham\u2000en\u2003em\u2009thin\u202fnarrow\u205fmath\u3000wide",
    "line\u2028separator\u2029paragraph\u0085next\u200bzero\u2060joiner\ufeffmark",
    "soft\u00adhyphen non\u2011breaking\u2010hyphen \u2212minus figure\u2012dash bar\u2015",
    "T\x10his  is a …naïve\x00null\x01\x07\x1b[0m\x7fdelete\x80\x9f",
    "a\x1cb\x1dc\x1ed\x1fe",
    "left\u200eright\u200fmark \u202aembed\u202c \u2066isolate\u2069",
    "\ufffd replacement \ufffe \uffff private \ue000 \U000f0000",
    "",
    " ",
    "\t\n",
    "\u3000",
    "\u200d",
    "\u0301",
    # --- Emoji and symbols
    "I ❤️ NY ☃️ ☺ ★ ♥ ♫ ✓ → ← ⇒ ∞ ≠ ≤ √ ∑ ∫",
    "😀 😃😄 👍🏽 💩💩💩 is here 🎉! x😀y",
    "👩‍👩‍👧 👨‍💻 🏳️‍🌈 🇩🇪🇺🇸 1️⃣ #️⃣ ©️ ™ ®",
    "𝒜𝓁𝒾𝒸𝑒 𝐁𝐨𝐥𝐝 𝟙𝟚 Ｆｕｌｌ　Ｗｉｄｔｈ ｡｢｣､ ⓐⓑ ⒜ ⸻ ﹏ ︰ ﹪ ＃＠［］",
    "┌─┐ █ ░ ▁ ▂ ▁the ▁▁two x▁y",
    # --- Special and added tokens as text
    "[CLS] paris is the [MASK] of france [SEP]",
    "nice [SEP] bad [PAD] x [UNK] y",
    "<s>start</s> <pad> <unk> <mask> <cls> <sep> [mask] [Mask] x[MASK]y [MASK].",
    "[unused1] [unused99] [ENT] [E1] entity [/E1] <e> </e> <user> @user <URL>",
    "covid-19 COVID-19 Covid-19s xcovid-19 covid- 19",
    "## ##ing x##ing # #tag a##b",
    "[ MASK ] [MASK <mask [[CLS]] [] <> < s >",
)

_AROUND = ("{}", "a {} a", "x{}y", "{}{}", "{}, {}.")


class Difference(NamedTuple):
    """The first text on which two tokenizers disagree, and the pieces of each."""

    text: str
    first: list[str]
    second: list[str]


def lines(pieces: Iterable[str], added: Iterable[str] = (), most: int = 400) -> list[str]:
    """The built-in texts, words from the vocabulary itself (its own scripts and symbols), and its added tokens.

    Args:
      pieces: of the vocabulary, in any order.
      added: tokens that are found in the raw text; each stands alone, in a sentence, inside a word and in other case.
      most: number of pieces that are taken, evenly over the sorted vocabulary.
    """
    words = sorted({piece.removeprefix("##").replace("▁", " ") for piece in pieces})
    own = [f"{word} a{word} {word}." for word in words[:: max(1, len(words) // most)]]
    cases = [case for token in added for case in (token, token.upper())]
    return [*_TEXTS, *own, *(line.replace("{}", token) for token in cases for line in _AROUND)]


def first_difference(
    first: Callable[[list[str]], Sequence[list[str]]],
    second: Callable[[list[str]], Sequence[list[str]]],
    texts: list[str],
) -> Difference | None:
    """The first of `texts`, or the first word in it, that two tokenizers cut into different pieces; None if none is."""
    for text, one, two in zip(texts, first(texts), second(texts), strict=True):
        if list(one) != list(two):
            words = text.split()
            within = first_difference(first, second, words) if len(words) > 1 else None
            return within or Difference(text, list(one), list(two))
    return None
