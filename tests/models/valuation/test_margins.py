from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from models.valuation.margins import ClickMargins, MarginsError, MarginShares
from models.valuation.money import Margin


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "margins.yaml"


def test_the_share_is_that_of_the_category_or_of_the_nearest_above_it_or_of_all(file: Path) -> None:
    file.write_text("default: 0.3\ncategories: {Kitchen: 0.4, Kitchen > Mugs: 0.45}\n")
    shares = MarginShares.load(file)
    wanted = {"Kitchen > Mugs": "4.5", "Kitchen > Mugs > Enamel": "4.5", "Kitchen > Pans": "4", "Kitchenware": "3", None: "3"}
    assert {name: shares.margin(Decimal(10), None, name) for name in wanted} == {
        name: Margin(Decimal(amount), modelled=True) for name, amount in wanted.items()
    }


def test_what_is_told_is_never_modelled_and_what_has_no_share_is_unknown() -> None:
    shares = MarginShares(categories={"Kitchen": Decimal("0.4")})
    assert shares.margin(Decimal(10), Decimal(-1), "Kitchen") == Margin(Decimal(-1))
    assert shares.margin(Decimal(10), None, "Garden") is None


def test_what_goes_back_takes_its_margin_with_it_to_the_decimals_of_an_amount() -> None:
    assert MarginShares(default=Decimal("0.333333")).margin(Decimal("-0.01"), None, None) == Margin(Decimal("-0.003333"), modelled=True)


@pytest.mark.parametrize("text", ["default: 1.5", "categories: {Kitchen: -0.1}", "defualt: 0.3", "0.3", "{", "default: much"])
def test_a_file_that_holds_no_shares_is_refused_by_its_name(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(MarginsError, match=r"margins\.yaml does not say"):
        MarginShares.load(file)


def test_a_file_that_is_not_there_is_refused_by_its_name(file: Path) -> None:
    with pytest.raises(MarginsError, match=r"margins\.yaml cannot be read"):
        MarginShares.load(file)


def test_what_a_click_is_worth_is_that_of_the_category_or_of_the_nearest_above_it_or_of_all(file: Path) -> None:
    file.write_text("{currency: GBP, default: 0.04, categories: {Kitchen: 0.10, Garden: 0}}")
    clicks = ClickMargins.load(file)
    wanted = {"Kitchen > Mugs": Decimal("0.10"), "Kitchenware": Decimal("0.04"), None: Decimal("0.04"), "Garden > Tools": None}
    assert {name: clicks.margin(name) for name in wanted} == wanted
    assert clicks.currency == "GBP"
    assert ClickMargins().margin("Kitchen") is None


@pytest.mark.parametrize(
    "text", ["default: 0.1", "{currency: GBP, default: -1}", "{currency: pounds, default: 1}", "{currency: GBP, clicks: 1}"]
)
def test_a_file_that_does_not_say_what_a_click_is_worth_is_refused_by_its_name(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(MarginsError, match=r"margins\.yaml does not say what a click is worth"):
        ClickMargins.load(file)
