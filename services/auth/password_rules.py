"""Which passwords are refused, and the reason that people are told."""

import re
import unicodedata
from functools import cache

from libs.errors import InvalidArgument

SHORTEST = 8
# A row of so many letters says something of a password.
PIECE = 4

_PRODUCT = {"thmnayah", "thmanyah", "thamanya", "thamaniyah", "thamanyah", "ثمناية", "ثمنايه", "studio"}
# What fingers find on a keyboard and children in a primer; any piece of them, in either direction.
_RUNS = (
    *("abcdefghijklmnopqrstuvwxyz", "qwertyuiop", "asdfghjkl", "zxcvbnm", "1qaz2wsx3edc4rfv5tgb"),
    *("ابتثجحخدذرزسشصضطظعغفقكلمنهوي", "أبتثجحخدذرزسشصضطظعغفقكلمنهوي", "أبجدهوزحطيكلمنسعفصقرشتثخذضظغ"),
    *("ضصثقفغعهخحجد", "شسيبلاتنمكط"),
)
_SUBSTITUTES = str.maketrans("013457@$!", "oleastasi")
_EDGES = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_REPEATED = re.compile(r"(.{1,3}?)\1+.?")


def check(password: str, *, email: str, name: str) -> None:
    """Look at a new password; its length and upper bounds are the contract's.

    Args:
        email: of the account, whose parts are no secret.
        name: the person's, the same.

    Raises:
        InvalidArgument: it is too short, lacks an upper-case letter or a digit, or is easily guessed.
    """
    # As it is hashed: what looks alike on two keyboards is one password.
    typed, password = password, unicodedata.normalize("NFKC", password)
    if min(len(typed), len(password)) < SHORTEST:
        raise _refused(f"must have at least {SHORTEST} characters", f"يجب ألا تقل كلمة المرور عن {SHORTEST} أحرف")
    categories = {unicodedata.category(character) for character in password}
    if "Lu" not in categories or "Nd" not in categories:
        raise _refused(
            "must hold an upper-case letter and a digit", "يجب أن تحتوي كلمة المرور على حرف لاتيني كبير ورقم"
        )
    folded = password.casefold()
    core = _EDGES.sub("", folded)
    if any(each in _listed() for each in (folded, core, _unmasked(folded), _unmasked(core))):
        raise _refused("is one of those that are tried first", "كلمة المرور هذه من أكثر الكلمات شيوعًا، وتُجرَّب قبل غيرها")
    if len(core) >= PIECE and (any(core in run or core[::-1] in run for run in _RUNS) or _REPEATED.fullmatch(core)):
        raise _refused(
            "repeats itself or follows the keyboard", "كلمة المرور مكررة أو تتبع ترتيب الحروف أو لوحة المفاتيح"
        )
    rest = folded
    # The longest first, or a part would leave a piece of the whole.
    for part in sorted(set(re.split(r"[\W_]+", f"{email} {name}".casefold())), key=len, reverse=True):
        if len(part) > 2:
            rest = rest.replace(part, "")
    if rest != folded and len(re.sub(r"[\W_]", "", rest)) < SHORTEST:
        raise _refused(
            "is little more than the name or the address", "كلمة المرور لا تزيد كثيرًا على الاسم أو البريد الإلكتروني"
        )


def _refused(english: str, arabic: str) -> InvalidArgument:
    return InvalidArgument({"password": english}, reason="PASSWORD_WEAK", arabic=arabic)


def _unmasked(password: str) -> str:
    """The letters that signs stand for in "p@ssw0rd"."""
    return password.translate(_SUBSTITUTES)


@cache
def _listed() -> frozenset[str]:
    """Passwords and names by how common they are, and words of this product: some 45,000."""
    # Read when the first password is set: it takes 5 MB.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415

    names = ("passwords", "surnames", "female_names", "male_names")
    return frozenset(word for name in names for word in FREQUENCY_LISTS[name]) | _PRODUCT
