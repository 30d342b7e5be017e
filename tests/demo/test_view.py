import io
from collections import Counter

from rich.console import Console

from models.simulation import Storefront
from streams.demo.readings import Figures
from streams.demo.view import LiveView, PlainView, Rate

PRODUCTS = {product.sku: product for product in Storefront(7).catalogue.products}


def figures():
    skus = list(PRODUCTS)[:2]
    items = [{"sku": sku, "position": place, "explanation": "because you viewed a teapot"} for place, sku in enumerate(skus, 1)]
    return Figures(recommendations=12, dead_letters=Counter(json_invalid=3), newest={"user_id": "ann", "items": items})


def test_rate_is_the_slope_over_the_last_seconds_only():
    rate = Rate()
    assert rate.update(0.0, 0) == 0.0
    for second in range(1, 10):
        rate.update(float(second), 100 * second)
    assert rate.update(10.0, 2_900) == (2_900 - 700) / 3


def test_the_panel_names_the_shopper_the_products_and_why():
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    with LiveView(console, "a shop", PRODUCTS, ["Ctrl-C stops"]) as view:
        view.show(1_234, figures())
    text = console.file.getvalue()
    first = next(iter(PRODUCTS.values()))
    for expected in (
        "a shop",
        "1,234",
        "newest list, for ann",
        first.title,
        f"{first.price} GBP",
        "because you viewed a teapot",
        "json_invalid",
        "Ctrl-C stops",
    ):
        assert expected in text


def test_plain_lines_come_at_most_every_two_seconds():
    console = Console(file=io.StringIO(), width=40)
    view = PlainView(console)
    for _ in range(50):
        view.show(1_234, figures())
    assert console.file.getvalue().splitlines() == ["     1,234 events        0/s  12 lists  3 refused"]
