"""Which passwords are taken: a table, and the reason in both languages."""

import re

import pytest

from libs.errors import InvalidArgument
from services.auth.password_rules import _listed as listed
from services.auth.password_rules import check
from tests.auth.conftest import MakeUser
from tests.content.items import refused

EMAIL, NAME = "sara.qahtani@riyadhpress.example", "Sara Al-Qahtani سارة القحطاني"

SHORT, LETTERS, COMMON, ROW, OWN = "at least 8", "upper-case", "tried first", "keyboard", "the name"
REFUSED = {
    "": SHORT,
    "Ab1": SHORT,
    "Abc-12x": SHORT,
    "كلمة1A": SHORT,
    "ﷺA1": SHORT,  # one sign that stands for eighteen letters
    "lower-case-1": LETTERS,
    "UPPER-CASE": LETTERS,
    "no upper case 77": LETTERS,
    "كلمة سر طويلة جدا": LETTERS,
    "كلمة سر طويلة ١٢٣": LETTERS,
    "Password1": COMMON,
    "PASSWORD1": COMMON,
    "Password123!": COMMON,
    "P@ssw0rd": COMMON,
    "P@ssw0rd2026": COMMON,
    "Pa55word!": COMMON,
    "Ｐａｓｓｗｏｒｄ１": COMMON,  # wide letters, as some keyboards write them
    "Welcome1": COMMON,
    "Welcome2026!": COMMON,
    "Qwerty123": COMMON,
    "1qaz2wsX": COMMON,
    "Letmein99": COMMON,
    "Football7": COMMON,
    "Dragon2024": COMMON,
    "Mustang-69": COMMON,
    "Thmnayah1": COMMON,
    "Thmanyah-2026": COMMON,
    "Studio2026!": COMMON,
    "Michael1990": COMMON,
    "Smith-2026": COMMON,
    "Abcdefgh1": ROW,
    "Hgfedcba1": ROW,
    "Asdfghjkl1": COMMON,
    "Lkjhgfdsa1": ROW,
    "Aaaaaaaa1": ROW,
    "Ababababab1": ROW,
    "Xyzxyzxyz1": ROW,
    "Sara1234": COMMON,
    "Qahtani2026": OWN,
    "2026-QAHTANI-77": OWN,
    "Riyadhpress1": OWN,
    "Sara.Qahtani1": OWN,
    "القحطاني-A1": OWN,
}
TAKEN = [
    "Correct-Horse-7",
    "Passw0rd-of-tests",
    "Tr0ub4dor and friends",
    "Nine blue camels at noon 9",
    "Xk7#mQ2$vLp9",
    "hT4-zzQ-81-Pwm",
    "A1" + "😀" * 20,
    "Ünïcödé-Straße-4",
    "Sara loves cold bread at 7",
    "Qahtani-und-der-Regenschirm-3",
    "القحطاني يحب المطر A7",
    "النخلة Palm تثمر 7 مرات",
    "قهوة عربية Qahwa ٧ فناجين",
    "مفتاح Riyadh القديم ١٤٤٧",
    "Bayt al-Hikma بيت الحكمة 830",
    "سبع سماوات Seven طباقا 7",
    "A صحراء واسعة ونجوم ٩",
    "كتابي Mercury ٣ أسرار",
    "Long sentences are easy to keep in mind 1",
    "Zq" + "7" * 126,
]


@pytest.mark.parametrize(("password", "reason"), REFUSED.items())
def test_a_password_that_is_easily_guessed_is_refused(password: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(password, email=EMAIL, name=NAME)

    assert reason in caught.value.violations["password"]
    assert re.search("[\u0600-\u06ff]", caught.value.arabic)
    assert not password or password not in str(caught.value.status(language="ar", request_id=""))


@pytest.mark.parametrize("password", TAKEN)
def test_a_good_password_is_taken(password: str) -> None:
    check(password, email=EMAIL, name=NAME)


def test_the_table_and_the_list_are_as_long_as_is_asked() -> None:
    assert len(REFUSED) + len(TAKEN) >= 60
    assert len(listed()) >= 30_000


@pytest.mark.parametrize("password", ["Welcome1", "Thmnayah1"])
async def test_a_service_refuses_it_naming_the_field(make_user: MakeUser, password: str) -> None:
    refusal = await refused(make_user(password=password))

    assert (refusal.reason, list(refusal.violations)) == ("PASSWORD_WEAK", ["password"])
