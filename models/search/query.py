"""What a shopper typed, as both ways of searching read it."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: Words beyond this are left to the encoder: no product is told apart by a 17th word, and a common word costs milliseconds.
WORD_LIMIT: Final = 16
#: Letters and digits from which on a word also stands for all that begin so: one letter begins a tenth of a catalogue.
PREFIX_MINIMUM: Final = 2
#: The blocks of pictographs. SQLite's tables are older than many of them and take those for letters of the word beside them.
_PICTOGRAPHS: Final = re.compile("[\U0001f000-\U0001fbff]+")


def unified(text: str) -> str:
    """Compatibility forms as one (NFKC), pictographs as blanks: how texts are indexed and queries read.

    Example:
        >>> unified("🎄Ｍug ①")
        ' Mug 1'

    """
    return _PICTOGRAPHS.sub(" ", unicodedata.normalize("NFKC", text))


def normalised(text: str) -> str:
    """Lower case, unified, one space between words; what cannot be printed separates words, too.

    Example:
        >>> normalised("  RÉD   Mug　３ｃｍ ")
        'réd mug 3cm'

    """
    return " ".join("".join(sign if sign.isprintable() else " " for sign in unified(text).lower()).split())


def words(query: str) -> list[str]:
    """The distinct words of a normalised query that hold a letter or a digit, at most ``WORD_LIMIT``, in order.

    Example:
        >>> words("red mug - red !!")
        ['red', 'mug']

    """
    return [word for word in dict.fromkeys(query.split()) if _spoken(word)][:WORD_LIMIT]


def match_expression(query: str) -> str:
    """A normalised query in FTS5's language; empty where it holds no word. No query can break out of its quotes.

    Each word stands for itself and for what begins with it, so that one written in full counts twice. A word that the tokenizer
    divides (``ab-12``) is a phrase. Any word is enough to be found; more words found rank higher, by BM25.

    Example:
        >>> match_expression('red 5"-x')
        '"red" OR "red" * OR "5""-x" OR "5""-x" *'

    """
    terms: list[str] = []
    for word in words(query):
        quoted = '"' + word.replace('"', '""') + '"'
        terms.append(quoted)
        if _spoken(word) >= PREFIX_MINIMUM:
            terms.append(f"{quoted} *")
    return " OR ".join(terms)


def _spoken(word: str) -> int:
    return sum(map(str.isalnum, word))
