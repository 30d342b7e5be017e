from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import BusinessRules, Fault, RulesError, read_rules
from models.rules.example import EXAMPLE
from models.rules.file import Audience, Bury, Exclude, ExposureCap, Pin
from models.rules.reading import SIZE_LIMIT
from models.rules.wording import describe


def faults(text: str | bytes) -> list[str]:
    with pytest.raises(RulesError) as refused:
        read_rules(text if isinstance(text, bytes) else text.encode())
    return [str(fault) for fault in refused.value.faults]


def test_scalars_are_what_was_written_whatever_yaml_takes_them_for() -> None:
    text = """
exclude:
  - skus: [0123, 1e3, yes, 2026-01-01, null]
    price_below: 19.99
    for: {regions: [NO, on]}
pin:
  - sku: 85123
    position: 7
"""
    (exclude,), (pin,) = read_rules(text.encode()).exclude, read_rules(text.encode()).pin
    assert exclude.skus == ("0123", "1e3", "yes", "2026-01-01", "null")
    assert exclude.price_below == Decimal("19.99")
    assert exclude.audience is not None
    assert exclude.audience.regions == ("NO", "on")
    assert (pin.sku, pin.position) == ("85123", 7)


def test_one_name_may_stand_for_a_list_of_one_and_an_empty_heading_for_no_rules() -> None:
    rules = read_rules(b"exclude:\n  - brands: Acme\npin:\nbury: []\n")
    assert [rule.brands for rule in rules.exclude] == [("Acme",)]
    assert (rules.pin, rules.bury, rules.count) == ((), (), 1)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1, column 1: a file of rules has at least one of the keys pin, bury, exclude, exposure_caps"),
        ("- a", "line 1, column 1: a file of rules has at least one of the keys"),
        ("excludes: []", "line 1, column 1: excludes: there is no such key here; known are pin, bury, exclude, exposure_caps"),
        (
            "pin:\n  - sku: a\n    place: 3",
            "line 3, column 5: pin.0.place: there is no such key here; known are name, for, from, until, sku",
        ),
        (
            "exclude:\n - brands: a\n   for: {country: GB}",
            "line 3, column 10: exclude.0.for.country: there is no such key here; known are reg",
        ),
        ("pin: [{sku: a}]", "line 1, column 7: pin.0.position: is missing; add it"),
        ("pin: [{sku: a, position: 0}]", "line 1, column 26: pin.0.position: Input should be greater than or equal to 1 (got '0')"),
        ("pin: [{sku: a, position: 101}]", "line 1, column 26: pin.0.position: Input should be less than or equal to 100"),
        ("pin: a", "line 1, column 6: pin: write a list here, each entry on a line of its own behind a dash"),
        ("pin: [a]", "line 1, column 7: pin.0: write keys and their values here"),
        ("exclude: [{for: {regions: GB}}]", "line 1, column 11: exclude.0: say which products: skus, categories, brands"),
        ("exclude: [{brands: []}]", "line 1, column 20: exclude.0.brands: names nothing; name at least one, or leave the key out"),
        ("exclude: [{brands: a, for: {}}]", "line 1, column 28: exclude.0.for: say for whom: regions, categories or both"),
        ("exclude: [{price_below: -1}]", "line 1, column 25: exclude.0.price_below: a price lies in 0..100000000"),
        ("exclude: [{price_below: cheap}]", "line 1, column 25: exclude.0.price_below: Input should be a valid decimal (got 'cheap')"),
        ("exclude: [{price_from: 3, price_below: 3}]", "line 1, column 11: exclude.0: price_below must be greater than price_from"),
        ("exclude: [{price_from: 3, currency: gbp}]", "line 1, column 37: exclude.0.currency: not an ISO 4217 currency code (got 'gbp')"),
        ("exclude: [{stock_below: 0}]", "line 1, column 25: exclude.0.stock_below: Input should be greater than or equal to 1"),
        ("bury: [{brands: a}]", "line 1, column 8: bury.0: give either a factor between 0 and 1 or to_end: true"),
        ("bury: [{brands: a, factor: 0.5, to_end: true}]", "line 1, column 8: bury.0: give either a factor"),
        ("bury: [{brands: a, factor: nan}]", "line 1, column 28: bury.0.factor: Input should be a finite number"),
        ("bury: [{brands: a, factor: 1}]", "line 1, column 28: bury.0.factor: Input should be less than 1"),
        ("exposure_caps: [{per: brand}]", "line 1, column 17: exposure_caps.0: say how many: at_most (items) or share"),
        ("exposure_caps: [{per: brand, level: 1, at_most: 1}]", "line 1, column 17: exposure_caps.0: a brand has no level; leave it out"),
        ("exposure_caps: [{per: shop, at_most: 1}]", "line 1, column 23: exposure_caps.0.per: Input should be 'category' or 'brand'"),
        (
            "exposure_caps: [{per: brand, at_most: 0}]",
            "line 1, column 39: exposure_caps.0.at_most: Input should be greater than or equal to 1",
        ),
        ("exclude: [{brands: a, until: 2026-01-01}]", "line 1, column 30: exclude.0.until: write a time as 2026-03-01T00:00:00+01:00"),
        ("exclude: [{brands: a, from: 1767225600}]", "line 1, column 29: exclude.0.from: write a time as 2026-03-01T00:00:00+01:00"),
        ("exclude: [{brands: a, from: 2026-03-01T00:00:00}]", "line 1, column 29: exclude.0.from: write a time as"),
        (
            "exclude: [{brands: a, from: 2026-03-01T00:00:00+01:00, until: 2026-02-28T23:00:00Z}]",
            "line 1, column 11: exclude.0: until must be later than from",
        ),
        ("exclude: [\n", "line 2, column 1: not valid YAML: while parsing a flow node"),
        ("exclude: []\n---\nexclude: []", "line 2, column 1: not valid YAML: expected a single document"),
        ("exclude: []\nexclude: []", "line 2, column 1: exclude: is given twice; keep one"),
        ("exclude: [{[a]: b}]", "line 1, column 12: exclude.0: a key is a single word"),
        ("exclude: &rules [*rules]", "line 1, column 18: not valid YAML: aliases (*name) are not read; write out what it stands for"),
        ("exclude: []\n\nx: \a", "line 3, column 1: special characters are not allowed (#x07); remove it"),
        (b"exclude: []\n# caf\xe9\n", "line 2, column 1: not UTF-8: invalid continuation byte; save the file as UTF-8"),
        ("[" * 100_000, "lists within lists go too deep"),
        (b"#" * (SIZE_LIMIT + 1), "is larger than any file of rules"),
    ],
)
def test_a_fault_is_told_with_its_place_and_what_to_do(text: str | bytes, fault: str) -> None:
    told = faults(text)
    assert any(one.startswith(fault) for one in told), told


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    told = faults("pin: [{sku: a, position: x}]\nbury: [{brands: b}]\nexclude: [{brand: c}]\nexclude: []\n")
    assert [one.split(",")[0] for one in told] == ["line 1", "line 2", "line 3", "line 4"]


def test_a_file_written_by_windows_is_read() -> None:
    assert read_rules("\ufeffexclude:\r\n  - brands: Café\r\n".encode()).exclude[0].brands == ("Café",)


def test_the_digest_is_that_of_the_rules_and_not_of_their_layout() -> None:
    rules = read_rules(b"exclude: [{brands: [a], stock_below: 3}]")
    assert read_rules(b"# why\nexclude:\n  - stock_below: 3\n    brands: a\n").digest == rules.digest
    assert read_rules(b"exclude: [{brands: [a], stock_below: 4}]").digest != rules.digest
    assert len(rules.digest) == 12


def test_the_example_is_valid_and_shows_every_key() -> None:
    rules = read_rules(EXAMPLE.encode())
    assert min(len(rules.pin), len(rules.bury), len(rules.exclude), len(rules.exposure_caps)) > 0
    for part in (BusinessRules, Audience, Pin, Bury, Exclude, ExposureCap):
        for name, field in part.model_fields.items():
            assert f"{field.alias or name}:" in EXAMPLE, name


def test_each_rule_is_told_in_a_sentence_with_its_standing() -> None:
    rules = read_rules(EXAMPLE.encode())
    told = {sentence.name: sentence for sentence in describe(rules, 1_772_366_400_000)}  # 2026-03-01T12:00:00Z
    assert len(describe(rules, 0)) == rules.count
    assert told["Kitchen campaign"] == (
        "pin", "Kitchen campaign",
        "MUG-7 at place 3, for shoppers looking at Kitchen, from 2026-03-01T00:00:00+01:00, until 2026-04-01T00:00:00+02:00", "in force",
    )  # fmt: skip
    assert told["No knives to Ireland, nor to whom we do not know"].text == (
        "no product KN-100 or KN-200, for shoppers in IE or of no known region"
    )
    assert told["Trifles"].text == "no product with a price below 1.50 priced in GBP"
    assert told["Low margin"].text == "any product of brand Plainware at 0.5 times the score"
    assert told["Vouchers, if at all"].text == "at most 1 item of Vouchers in a list"
    campaign = [next(one for one in describe(rules, at) if one.name == "Kitchen campaign").standing for at in (0, 4_000_000_000_000)]
    assert campaign == ["to come", "over"]


def outcome(data: bytes) -> BusinessRules | list[Fault]:
    try:
        return read_rules(data)
    except RulesError as error:
        return error.faults


@given(
    st.integers(0, len(EXAMPLE)), st.integers(0, 60), st.text(max_size=6) | st.sampled_from(["\n", "  ", "- ", ": ", "{", "]", "*", "\t"])
)
def test_a_damaged_file_is_rules_or_faults_at_places_of_it(at: int, cut: int, put: str) -> None:
    data = (EXAMPLE[:at] + put + EXAMPLE[at + cut :]).encode("utf-8", "surrogatepass")
    found = outcome(data)
    if isinstance(found, BusinessRules):
        assert len(describe(found, 0)) == found.count
    else:
        assert found
        assert all(0 <= fault.line <= len(data.splitlines()) + 1 and fault.message for fault in found)


@given(st.binary() | st.text().map(str.encode))
def test_what_is_no_file_of_rules_at_all_is_refused(data: bytes) -> None:
    assert isinstance(outcome(data), list)
