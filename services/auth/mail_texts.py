"""What mails say, in Arabic and English, as plain text and as HTML."""

from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, localtime, make_msgid, parseaddr
from html import escape

_ISOLATE, _END = "\u2068", "\u2069"


@dataclass(frozen=True)
class _Text:
    subject: str
    lines: tuple[str, ...]
    """What it is about, then what to do."""
    page: str = ""
    """Of the Studio, which takes the code; "" for a mail without one."""


_TEXTS: dict[tuple[str, str], _Text] = {
    ("INVITED", "ar"): _Text(
        "دعوة إلى ثمناية",
        ("دُعيت للانضمام إلى المنصة.", "اختر كلمة مرورك بهذا الرمز. يصلح مرة واحدة خلال سبعة أيام."),
        page="invitation",
    ),
    ("INVITED", "en"): _Text(
        "Your invitation to Thmnayah",
        ("You were invited to the platform.", "Choose your password with this code. It works once, for seven days."),
        page="invitation",
    ),
    ("UNVERIFIED", "ar"): _Text(
        "أكّد بريدك الإلكتروني",
        (
            "طُلب حساب في ثمناية بهذا العنوان. إن لم تطلبه أنت فتجاهل هذه الرسالة.",
            "أكّد عنوانك واختر كلمة مرورك بهذا الرمز. يصلح مرة واحدة خلال يوم.",
        ),
        page="invitation",
    ),
    ("UNVERIFIED", "en"): _Text(
        "Confirm your e-mail address",
        (
            "Somebody asked for an account of Thmnayah with this address. If it was not you, ignore this mail.",
            "Confirm the address and choose your password with this code. It works once, for a day.",
        ),
        page="invitation",
    ),
    ("RESET", "ar"): _Text(
        "إعادة تعيين كلمة المرور",
        (
            "طُلبت إعادة تعيين كلمة مرورك في ثمناية. إن لم تطلبها أنت فتجاهل هذه الرسالة، ولن يتغير شيء.",
            "اختر كلمة مرور جديدة بهذا الرمز. يصلح مرة واحدة خلال عشر دقائق.",
        ),
        page="reset",
    ),
    ("RESET", "en"): _Text(
        "Reset your password",
        (
            "Somebody asked to reset your password of Thmnayah. If it was not you, ignore this mail: nothing changes.",
            "Choose a new password with this code. It works once, for ten minutes.",
        ),
        page="reset",
    ),
    ("EXISTS", "ar"): _Text(
        "لديك حساب بالفعل",
        (
            "طُلب حساب في ثمناية بهذا العنوان، ولك حساب به بالفعل.",
            "سجّل الدخول كعادتك، أو اطلب إعادة تعيين كلمة المرور إن نسيتها.",
        ),
    ),
    ("EXISTS", "en"): _Text(
        "You have an account already",
        (
            "Somebody asked for an account of Thmnayah with this address, and you have one already.",
            "Sign in as usual, or ask for a reset if you forgot your password.",
        ),
    ),
    ("PASSWORD_CHANGED", "ar"): _Text(
        "تغيّرت كلمة مرورك",
        ("تغيّرت كلمة مرورك في ثمناية.", "إن لم تغيّرها أنت فأعد تعيينها الآن وأخبر مدير المنصة."),
    ),
    ("PASSWORD_CHANGED", "en"): _Text(
        "Your password was changed",
        (
            "Your password of Thmnayah was changed.",
            "If it was not you, reset it now and tell an administrator of the platform.",
        ),
    ),
    ("EMAIL_CHANGE", "ar"): _Text(
        "أكّد بريدك الإلكتروني الجديد",
        (
            "طُلب أن يكون هذا العنوان عنوان حساب في ثمناية. إن لم تطلبه أنت فتجاهل هذه الرسالة.",
            "أدخل هذا الرمز حيث سجّلت الدخول، ولا تعطه أحدًا. يصلح مرة واحدة خلال عشر دقائق.",
        ),
        page="email",
    ),
    ("EMAIL_CHANGE", "en"): _Text(
        "Confirm your new e-mail address",
        (
            "Somebody asked for this as the address of an account of Thmnayah. If it was not you, ignore this mail.",
            "Enter this code where you are signed in; give it to nobody. It works once, for ten minutes.",
        ),
        page="email",
    ),
    ("EMAIL_TAKEN", "ar"): _Text(
        "طُلب عنوانك لحساب آخر",
        (
            "طُلب أن يكون هذا العنوان عنوان حساب آخر في ثمناية. ما زال عنوان حسابك.",
            "إن كنت أنت من طلبه فاستعمل عنوانًا آخر، أو احذف هذا الحساب أولًا.",
        ),
    ),
    ("EMAIL_TAKEN", "en"): _Text(
        "Your address was asked for another account",
        (
            "Somebody asked for this as the address of another account of Thmnayah. It stays that of yours.",
            "If it was you, use another address, or delete this account first.",
        ),
    ),
    ("EMAIL_CHANGED", "ar"): _Text(
        "تغيّر بريدك الإلكتروني",
        (
            "لم يعد هذا العنوان عنوان حسابك في ثمناية: صار للحساب عنوان آخر.",
            "إن لم تغيّره أنت فأخبر مدير المنصة الآن: يستطيع إعادة العنوان إليك.",
        ),
    ),
    ("EMAIL_CHANGED", "en"): _Text(
        "Your e-mail address was changed",
        (
            "This is no longer the address of your account of Thmnayah: the account has another one now.",
            "If it was not you, tell an administrator of the platform now, who can give the address back.",
        ),
    ),
}
_GREETINGS = {"ar": ("مرحبًا", "،"), "en": ("Hello", ",")}


def needs_code(what: str) -> bool:
    """Whether a mail brings a code."""
    return bool(_TEXTS[what, "en"].page)


def compose(what: str, *, to: str, name: str, locale: str, code: str, sender: str, studio_url: str) -> EmailMessage:
    """A mail in Arabic or, for a person of any other language, in English.

    Args:
        what: INVITED, UNVERIFIED, RESET, EXISTS, PASSWORD_CHANGED, EMAIL_CHANGE, EMAIL_TAKEN or EMAIL_CHANGED.
        name: the person's; may be empty.
        locale: the person's, as a BCP 47 tag.
        code: for the mails that bring one.
        sender: of the header From, such as "Thmnayah <no-reply@example.com>".
        studio_url: whose page takes the code; "" when there is none.
    """
    language = "ar" if locale.split("-", maxsplit=1)[0] == "ar" else "en"
    text = _TEXTS[what, language]
    # A fragment stays in the browser: no log and no other site gets the code.
    link = f"{studio_url.rstrip('/')}/{text.page}#{code}" if studio_url and code else ""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = to
    message["Subject"] = text.subject
    message["Date"] = format_datetime(localtime())
    message["Message-ID"] = make_msgid(domain=parseaddr(sender)[1].rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_plain(text, language, name, code, link))
    message.add_alternative(_html(text, language, name, code, link), subtype="html")
    message["Content-Language"] = language  # before, it would have gone to the first part
    return message


def _plain(text: _Text, language: str, name: str, code: str, link: str) -> str:
    hello, comma = _GREETINGS[language]
    # Isolated, a name in the other script does not turn the line around.
    greeting = f"{hello} {_ISOLATE}{name}{_END}{comma}" if name else f"{hello}{comma}"
    return "\n\n".join(filter(None, (greeting, *text.lines, code, link))) + "\n"


def _html(text: _Text, language: str, name: str, code: str, link: str) -> str:
    hello, comma = _GREETINGS[language]
    direction = "rtl" if language == "ar" else "ltr"
    greeting = f"{hello} <bdi>{escape(name)}</bdi>{comma}" if name else f"{hello}{comma}"
    parts = [f"<p>{greeting}</p>", *(f"<p>{escape(line)}</p>" for line in text.lines)]
    if code:
        parts.append(f'<p dir="ltr" style="text-align:start"><code>{escape(code)}</code></p>')
    if link:
        parts.append(f'<p dir="ltr"><a href="{escape(link)}">{escape(link.partition("#")[0])}</a></p>')
    return (
        f'<!doctype html>\n<html lang="{language}" dir="{direction}">\n<head><meta charset="utf-8">'
        f"<title>{escape(text.subject)}</title></head>\n"
        f'<body dir="{direction}" style="font-family:sans-serif;line-height:1.6">\n' + "\n".join(parts) + "\n</body>\n"
        "</html>\n"
    )
