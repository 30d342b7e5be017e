from __future__ import annotations

import pytest

from models.attribution import Basis, Claim, Credit, Memory, Windows, judge, sku_digest

WINDOWS = Windows(click_s=1000, view_s=100)


def shown() -> Memory:
    """``old`` held a and b, then ``newest`` held c."""
    return (
        Memory()
        .sent("old", 10_000, sku_digest("a") + sku_digest("b"), WINDOWS)
        .sent("newest", 20_000, sku_digest("c"), WINDOWS)
    )  # fmt: skip


def claim(kind: str, sku: str, at_s: int = 30, cited: str | None = None) -> Claim:
    return Claim(kind, sku, at_s * 1000, cited, "newest", 1 if sku == "c" else None)


@pytest.mark.parametrize(
    ("asked", "credit"),
    [
        (claim("click", "b", cited="old"), Credit(2, "cited")),
        (claim("browse", "b", cited="old"), Credit(2, "cited")),
        (claim("add_to_cart", "a", cited="old"), Credit(1, "cited")),
        (claim("purchase", "b", cited="old"), Credit(2, "cited")),
        (claim("purchase", "b", 1010, cited="old"), Credit(2, "cited")),
        (claim("purchase", "b", 1011, cited="old"), Credit()),
        (claim("purchase", "c", cited="old"), Credit(None, "listed")),  # not in that list: as if nothing were cited
        (claim("click", "c", cited="made up"), Credit(None, "listed")),
        (claim("click", "b", cited="made up"), Credit()),
        (claim("click", "c"), Credit(None, "listed")),
        (claim("browse", "c"), Credit()),
        (claim("click", "b"), Credit()),
        (claim("impression", "b", cited="old"), Credit(2, None)),
        (claim("refund", "b", cited="old"), Credit(2, None)),
    ],
)
def test_what_an_event_is_credited_with(asked: Claim, credit: Credit) -> None:
    assert judge(shown(), asked, WINDOWS)[0] == credit


def bought_after(*events: Claim, sku: str, at_s: int) -> Basis | None:
    memory = shown()
    for event in events:
        memory = judge(memory, event, WINDOWS)[1]
    return judge(memory, claim("purchase", sku, at_s), WINDOWS)[0].basis


def test_a_purchase_follows_a_click_out_of_a_list_within_its_window() -> None:
    click = claim("click", "a", 500, cited="old")
    assert [bought_after(click, sku="a", at_s=at_s) for at_s in (501, 1500, 1501)] == ["clicked", "clicked", None]
    assert bought_after(click, sku="b", at_s=501) is None
    assert bought_after(claim("click", "a", 500), sku="a", at_s=501) is None  # not out of a list


def test_a_view_counts_for_less_long_and_only_where_its_list_was_sent() -> None:
    view = claim("impression", "a", 500, cited="old")
    assert [bought_after(view, sku="a", at_s=at_s) for at_s in (501, 600, 601)] == ["viewed", "viewed", None]
    assert bought_after(claim("impression", "a", 500), sku="a", at_s=501) is None
    assert bought_after(claim("impression", "a", 500, cited="made up"), sku="a", at_s=501) is None
    assert bought_after(view, claim("click", "a", 510, cited="old"), sku="a", at_s=520) == "clicked"


def test_a_click_credited_without_a_citation_is_remembered_too() -> None:
    memory = judge(shown(), claim("click", "c"), WINDOWS)[1].sent("next", 40_000, sku_digest("d"), WINDOWS)
    asked = Claim("purchase", "c", 50_000, None, "next", None)
    assert judge(memory, asked, WINDOWS)[0] == Credit(None, "clicked")
