"""From text to the terms of the index: one function for documents and queries alike."""

from functools import lru_cache

import Stemmer

from libs import text

# A change here means that every document is analysed anew.
VERSION = 1

_english = Stemmer.Stemmer("english")

# Words that say nothing about what a text is about, as `text.normalize` writes them.
_STOP_ENGLISH = frozenset(
    """
    a about above after again against all also am an and any are as at be because been before being below between
    both but by can could did do does doing down during each few for from further had has have having he her here
    hers herself him himself his how i if in into is it its itself just many me more most much my myself no nor not
    now of off on once only or other our ours ourselves out over own same she should so some such than that the
    their theirs them themselves then there these they this those through to too under until up very was we were
    what when where which while who whom whose why will with would you your yours yourself yourselves
    """.split()
)
_STOP_ARABIC = frozenset(
    text.normalize(word)
    for word in """
    من الى إلى عن على في مع هذا هذه ذلك تلك هؤلاء أولئك التي الذي الذين اللذان اللتان اللواتي اللاتي ما ماذا متى أين
    كيف كم لماذا لم لن لا ليس ليست هل أ أو أم و ف ثم أن إن إنه إنها أنه أنها كان كانت كانوا يكون تكون كن يكونوا هو
    هي هم هن هما أنا نحن أنت أنتم قد لقد كل بعض أي أية أيا بين بعد قبل عند عندما حيث حتى إذا إذ لكن لكنه لكنها بل
    غير سوى منذ خلال ضد نحو فوق تحت أمام وراء دون بدون حول لدى عليه عليها عليهم منه منها منهم فيه فيها فيهم به بها
    بهم له لها لهم إليه إليها إليهم عنه عنها عنهم كما كذلك ذات ذا ذو هنا هناك أيضا جدا فقط يا مما عما فيما بما لما
    وما ولا وهو وهي وهم ومن وفي وعلى وإلى وعن ومع وكان وكانت وقد ولم ولن وأن وإن فإن فقد بأن لأن التى الذى اى تم يتم
    مثل ضمن
    """.split()
)

_PREFIXES = ("وال", "بال", "كال", "فال", "لل", "ال")
_SUFFIXES = ("ها", "ان", "ات", "ون", "ين", "يه", "هم", "نا", "ه", "ي")


def terms(content: str) -> list[tuple[str, int, int]]:
    """The terms of a text in order, each with where its word starts and ends in code points.

    Words that say nothing (the stop words of both languages) have no term.
    """
    return [(term, start, end) for word, start, end in text.words(content) if (term := _term(word))]


@lru_cache(maxsize=200_000)
def _term(word: str) -> str:
    """The term of a word as it is written; "" for a stop word."""
    form = text.normalize(word).replace(" ", "").replace("’", "'").removesuffix("'s").replace("'", "")
    if "\u0621" <= form[:1] <= "\u06ff":
        return "" if form in _STOP_ARABIC else _stem_arabic(form)
    return "" if form in _STOP_ENGLISH else _english.stemWord(form)


def _stem_arabic(word: str) -> str:
    """Take off an article with its particles and the endings of number, gender and possession.

    Source: Larkey, Ballesteros and Connell, "Light Stemming for Arabic Information Retrieval", 2007
    (light10), with the endings هم and نا.
    """
    if word.startswith("و") and len(word) > 3:
        word = word[1:]
    for prefix in _PREFIXES:
        if word.startswith(prefix) and len(word) - len(prefix) >= 2:
            word = word[len(prefix) :]
            break
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 2:
            word = word[: -len(suffix)]
    return word
