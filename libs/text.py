"""Arabic and English text: the form it is stored in, the form it is compared in, slugs and direction."""

import itertools
import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

# Tashkeel, Quranic marks and tatweel: written or left out at will.
_MARKS = "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed"
_OPTIONAL = re.compile(f"[{_MARKS}]")

# Zero-width characters, bidi controls and variation selectors: they change how a text looks, not what it says.
INVISIBLE = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff"
_INVISIBLE = re.compile(f"[{INVISIBLE}]")

_LETTERS = str.maketrans(
    {
        "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا",
        "ى": "ي", "ئ": "ي", "ی": "ي", "ې": "ي",
        "ؤ": "و",
        "ة": "ه", "ۀ": "ه", "ہ": "ه",
        "ک": "ك", "ڪ": "ك",
        "ء": None,
        "ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l",
    }
)  # fmt: skip

# A word is a run of letters, digits and marks of any script; an apostrophe inside holds it together.
_WORD_MARKS = f"[{_MARKS}{INVISIBLE}\u0300-\u036f]"
_WORD = re.compile(f"[^\\W_]+(?:(?:{_WORD_MARKS}+|['’])[^\\W_]+)*{_WORD_MARKS}*")


def nfc(text: str) -> str:
    """The form that text is stored in."""
    return unicodedata.normalize("NFC", text)


def is_blank(text: str) -> bool:
    """Whether a reader would see nothing."""
    return not _INVISIBLE.sub("", text).strip()


def normalize(text: str) -> str:
    """The form that text is compared in: what is written differently and read alike becomes equal.

    Letters lose their case and accents, Arabic ones their diacritics and the choice of alef, hamza,
    ya, ta marbuta and kaf; every digit becomes an ASCII one. It may be longer or shorter than `text`.
    """
    # Hamza on a seat must be seen whole before NFKD would split it off.
    text = unicodedata.normalize("NFKC", text).translate(_LETTERS)
    text = unicodedata.normalize("NFKD", text.casefold()).translate(_LETTERS)
    return "".join(
        str(unicodedata.digit(char)) if char.isdigit() else char
        for char in _INVISIBLE.sub("", _OPTIONAL.sub("", text))
        if not unicodedata.combining(char)
    )


def words(text: str) -> list[tuple[str, int, int]]:
    """The words of a text as they are written, each with where it starts and ends in code points."""
    found = []
    end = 0
    # What stands between words holds no letter, so a word's next occurrence is itself: match objects cost thrice.
    for word in _WORD.findall(text):
        start = text.index(word, end)
        end = start + len(word)
        found.append((word, start, end))
    return found


def slug(text: str, *, max_length: int = 120) -> str:
    """The address of a title, in its own script: letters and digits joined by hyphens.

    Empty only when the title holds neither a letter nor a digit.
    """
    text = _INVISIBLE.sub("", _OPTIONAL.sub("", unicodedata.normalize("NFKC", text).casefold()))
    return "-".join(nfc(text).translate(_in_slugs).split())[:max_length].rstrip("-")


class _InSlugs(dict[int, str]):
    """What characters become in slugs: themselves, or a space; each read by slug asks."""

    REMEMBERED = 0x3000  # below it are the alphabets

    def __missing__(self, code: int) -> str:
        char = chr(code)
        kept = char if unicodedata.category(char)[0] in "LM" or char.isdecimal() else " "
        if code < self.REMEMBERED:
            self[code] = kept
        return kept


_in_slugs = _InSlugs()


# Languages written from right to left, unless a tag names another script.
_RTL_LANGUAGES = frozenset("ar arc azb bal ckb dv fa glk he khw ks lrc mzn nqo pnb ps sd syr ug ur yi".split())
_RTL_SCRIPTS = frozenset("Adlm Arab Aran Hebr Mand Nkoo Rohg Samr Syrc Thaa Yezi".split())


def direction(texts: Iterable[str], locale: str = "") -> Literal["ltr", "rtl"]:
    """The way texts are read: by their first letter with a direction, otherwise by their BCP 47 locale.

    What stands in a directional isolate is not looked at (UAX #9, P2).
    """
    isolates = 0
    for char in itertools.chain.from_iterable(texts):
        kind = unicodedata.bidirectional(char)
        if kind in ("LRI", "RLI", "FSI"):
            isolates += 1
        elif kind == "PDI":
            isolates = max(0, isolates - 1)
        elif not isolates and kind in ("L", "R", "AL"):
            return "ltr" if kind == "L" else "rtl"
    language, _, rest = locale.partition("-")
    script = rest[:4] if len(rest.partition("-")[0]) == 4 else ""
    is_rtl = script in _RTL_SCRIPTS if script else language in _RTL_LANGUAGES
    return "rtl" if is_rtl else "ltr"
