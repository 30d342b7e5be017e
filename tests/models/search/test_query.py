from __future__ import annotations

import doctest

import pytest

from models.search import query
from models.search.query import WORD_LIMIT, match_expression, normalised, words


def test_the_examples_hold() -> None:
    assert doctest.testmod(query).failed == 0


@pytest.mark.parametrize(
    ("typed", "understood"),
    [
        ("Red  MUG", "red mug"),
        ("\tred\nmug\r\n", "red mug"),
        ("red\x00mug", "red mug"),
        ("\u202ered\ud800", "red"),
        ("ﬁne ①", "fine 1"),
        ("ＭＵＧ", "mug"),
        (" \x00 ", ""),
    ],
)
def test_spellings_of_one_query_become_one(typed: str, understood: str) -> None:
    assert normalised(typed) == understood
    assert normalised(understood) == understood


@pytest.mark.parametrize("typed", ["", "!!!", '"" \' * ()', "🛒 ❤", "- + ^ :"])
def test_what_holds_no_letter_or_digit_asks_for_nothing(typed: str) -> None:
    assert words(normalised(typed)) == []
    assert match_expression(normalised(typed)) == ""


def test_a_single_letter_stands_for_itself_alone() -> None:
    assert match_expression("a 5 ab") == '"a" OR "5" OR "ab" OR "ab" *'


def test_of_a_very_long_query_the_first_words_count() -> None:
    assert words(" ".join(f"w{number}" for number in range(WORD_LIMIT + 5))) == [f"w{number}" for number in range(WORD_LIMIT)]
