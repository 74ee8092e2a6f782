"""Titles in Latin letters: Arabic by a table of ours, other scripts by anyascii.

Vowels that are not written are not guessed, and tashkeel makes no difference, so a title has one address
however it is written. Read the rules in docs/slugs.md.
"""

import unicodedata

from anyascii import anyascii

from libs import text

# What the rules would make unreadable, and stands in many titles.
_WORDS = {
    "الله": "allah",
    "عبدالله": "abdullah",
    "محمد": "muhammad",
    "رئيس": "rais",
    "ابن": "ibn",
    "بن": "bin",
    "من": "min",
    "عن": "an",
    "كل": "kull",
    "قد": "qad",
    "ثم": "thumma",
    "هل": "hal",
    "و": "wa",
}
# Said as an a, and yet a consonant: سعيد is no "sayd".
_AIN = "ʿ"
_LETTERS = {
    "ب": "b", "ت": "t", "ث": "th", "ج": "j", "ح": "h", "خ": "kh", "د": "d", "ذ": "dh", "ر": "r", "ز": "z",
    "س": "s", "ش": "sh", "ص": "s", "ض": "d", "ط": "t", "ظ": "z", "ع": _AIN, "غ": "gh", "ف": "f", "ق": "q", "ك": "k",
    "ل": "l", "م": "m", "ن": "n", "ه": "h",
    "إ": "i", "ى": "a", "ة": "a", "ؤ": "u", "ئ": "i", "ء": "",
    # Persian, Urdu, Kurdish, Pashto and Uyghur.
    "پ": "p", "چ": "ch", "ژ": "zh", "گ": "g", "ک": "k", "ڤ": "v", "ڨ": "g", "ڭ": "ng", "ٹ": "t", "ڈ": "d",
    "ڑ": "r", "ں": "n", "ہ": "h", "ھ": "h", "ۂ": "h", "ۃ": "a", "ۀ": "a", "ے": "e", "ۓ": "e", "ە": "e",
    "ې": "e", "ێ": "e", "ۆ": "o", "ۇ": "u", "ڵ": "l", "ڕ": "r", "ټ": "t", "ډ": "d", "ړ": "r", "ږ": "g",
    "ښ": "sh", "ڼ": "n", "ګ": "g", "څ": "ts", "ځ": "dz",
}  # fmt: skip
_ALEFS, _WAW, _YAS = "اأآٱ", "و", "يی"
_VOWELS = "اأآٱىة"


def slug(title: str, *, max_length: int = 120) -> str:
    """The address of a title in Latin letters: a to z and digits, joined by hyphens.

    Empty only when the title holds neither a letter nor a digit that can be said so.
    """
    words = text.slug(title, max_length=max_length).split("-")
    return "-".join(filter(None, map(_word, words)))[:max_length].rstrip("-")


def _word(word: str) -> str:
    if word.isascii():
        return word
    if word in _WORDS:
        return _WORDS[word]
    article = "al-" if word.startswith("ال") and len(word) > 3 else ""
    rest = word[2:] if article else word
    if rest in _WORDS:
        return article + _WORDS[rest]
    said = ""
    for letter, after in zip(rest, rest[1:] + " ", strict=True):
        said += _said(letter, said, after)
    said = said.replace("a" + _AIN, "a").replace(_AIN, "a")
    return article + (said or ("a" if "ء" in rest else ""))


def _said(letter: str, before: str, after: str) -> str:
    """What a letter adds to the word that was said so far, before the letter after it."""
    if letter in _LETTERS:
        return "" if letter == "ئ" and before.endswith("i") else _LETTERS[letter]
    if letter in _ALEFS:
        return "" if before.endswith(("a", _AIN)) else "a"
    if letter == _WAW:
        return _semivowel("w", "u", before, is_consonant=not before or after in _VOWELS + _YAS)
    if letter in _YAS:
        if after == "ة" and before[-1:] not in "aiu":
            return "iy"
        return _semivowel("y", "i", before, is_consonant=not before or after in _VOWELS + _WAW)
    if letter.isdecimal():
        return str(unicodedata.decimal(letter))
    return "".join(char for char in anyascii(letter).lower() if char.isalnum())


def _semivowel(consonant: str, vowel: str, before: str, *, is_consonant: bool) -> str:
    if is_consonant:
        return consonant
    if before.endswith(vowel):
        return ""
    return consonant if before[-1] in "aiu" else vowel
