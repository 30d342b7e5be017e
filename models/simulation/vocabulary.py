"""The words of the simulated shop: what it sells, in which styles, and how it speaks about it.

Words that belong together stay together (a style's adjectives, colours and brands; a thing and what it is made of), so that a
text encoder finds the structure that the shoppers' tastes are planted in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CategoryWords:
    """One shelf of the shop.

    ``goods`` pairs a noun with its possible materials. ``features`` suit every noun of the shelf. ``prices`` is (low, high) in
    currency units. ``goes_with`` names (by code) the shelves that are bought from together with this one.
    """

    code: str
    path: tuple[str, ...]
    goods: tuple[tuple[str, tuple[str, ...]], ...]
    features: tuple[str, ...]
    prices: tuple[float, float]
    goes_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StyleWords:
    """One taste, across all shelves."""

    name: str
    adjectives: tuple[str, ...]
    colours: tuple[str, ...]
    brands: tuple[str, ...]
    sentences: tuple[str, ...]


CATEGORIES: Final[tuple[CategoryWords, ...]] = (
    CategoryWords(
        "MUG",
        ("Kitchen", "Mugs & Cups"),
        (
            ("mug", ("stoneware", "enamel", "porcelain")),
            ("espresso cup", ("porcelain", "stoneware")),
            ("teacup and saucer", ("bone china", "porcelain")),
            ("latte mug", ("stoneware", "glass")),
            ("travel cup", ("steel", "bamboo fibre")),
        ),
        ("dishwasher safe", "with a wide, comfortable rim", "keeps drinks hot for longer", "stacks neatly"),
        (4, 28),
        ("TEA", "JAR"),
    ),
    CategoryWords(
        "PAN",
        ("Kitchen", "Cookware"),
        (
            ("frying pan", ("cast iron", "copper", "steel")),
            ("casserole", ("cast iron", "stoneware")),
            ("saucepan", ("steel", "copper")),
            ("baking dish", ("stoneware", "enamel")),
            ("griddle", ("cast iron",)),
        ),
        ("suits induction hobs", "oven safe to 240 degrees", "heats evenly without hot spots", "easy to clean"),
        (18, 160),
        ("JAR", "LIN"),
    ),
    CategoryWords(
        "JAR",
        ("Kitchen", "Storage"),
        (
            ("storage jar", ("glass", "ceramic")),
            ("bread bin", ("tin", "bamboo")),
            ("cake tin", ("tin", "enamel")),
            ("spice rack", ("oak", "bamboo")),
            ("biscuit tin", ("tin",)),
        ),
        ("keeps food fresh for longer", "stacks neatly in the pantry", "with a chalk label", "wipes clean"),
        (6, 45),
        ("MUG", "TEA"),
    ),
    CategoryWords(
        "LIN",
        ("Kitchen", "Linen"),
        (
            ("tea towel", ("linen", "cotton")),
            ("apron", ("cotton", "hemp")),
            ("oven glove", ("quilted cotton",)),
            ("tablecloth", ("linen", "cotton")),
            ("napkin set", ("linen", "hemp")),
        ),
        ("machine washable", "softens with every wash", "printed by hand", "woven in a small mill"),
        (7, 55),
        ("PAN", "JAR"),
    ),
    CategoryWords(
        "LMP",
        ("Home", "Lighting"),
        (
            ("table lamp", ("brass", "ceramic", "oak")),
            ("pendant light", ("rattan", "glass", "brass")),
            ("floor lamp", ("brass", "oak")),
            ("lantern", ("glass", "iron")),
            ("wall light", ("brass", "porcelain")),
        ),
        ("casts a warm glow", "takes an E27 bulb", "with a braided cable", "works with a dimmer"),
        (15, 190),
        ("CND", "ART"),
    ),
    CategoryWords(
        "CSH",
        ("Home", "Cushions & Throws"),
        (
            ("cushion", ("velvet", "linen", "wool")),
            ("throw", ("wool", "cotton")),
            ("blanket", ("wool", "fleece")),
            ("bolster", ("velvet", "linen")),
            ("pouffe", ("leather", "cotton")),
        ),
        ("finished with tassels", "woven on a traditional loom", "soft enough for a long winter evening", "for sofa or bed"),
        (12, 120),
        ("CND", "LMP"),
    ),
    CategoryWords(
        "CND",
        ("Home", "Candles & Scent"),
        (
            ("scented candle", ("soy wax", "beeswax")),
            ("candle holder", ("brass", "glass")),
            ("reed diffuser", ("glass", "ceramic")),
            ("tealight set", ("soy wax", "beeswax")),
            ("incense burner", ("brass", "clay")),
        ),
        ("for a room that smells of fig and cedar", "made in small batches", "a calm light for the evening", "in a keepsake box"),
        (5, 48),
        ("CSH", "SPA"),
    ),
    CategoryWords(
        "ART",
        ("Home", "Wall Art"),
        (
            ("art print", ("cotton paper", "recycled paper")),
            ("wall clock", ("oak", "metal")),
            ("framed poster", ("oak", "black ash")),
            ("wall hanging", ("wool", "jute")),
            ("mirror", ("brass", "rattan")),
        ),
        ("ready to hang", "designed by an independent artist", "makes a quiet corner the centre of the room", "numbered edition"),
        (9, 150),
        ("LMP", "PLT"),
    ),
    CategoryWords(
        "PLT",
        ("Garden", "Pots & Planters"),
        (
            ("planter", ("terracotta", "concrete", "zinc")),
            ("hanging pot", ("ceramic", "seagrass")),
            ("plant stand", ("oak", "steel")),
            ("window box", ("zinc", "cedar")),
            ("herb pot", ("terracotta", "ceramic")),
        ),
        ("frost proof", "with a matching saucer", "for indoors and out", "gives roots room to breathe"),
        (6, 85),
        ("TLS", "ART"),
    ),
    CategoryWords(
        "TLS",
        ("Garden", "Tools"),
        (
            ("hand trowel", ("ash and steel",)),
            ("watering can", ("galvanised steel", "copper")),
            ("secateurs", ("carbon steel",)),
            ("garden fork", ("ash and steel",)),
            ("kneeler", ("waxed canvas",)),
        ),
        ("made to be repaired", "balanced in the hand", "proof against rain and rust", "a gardener's favourite"),
        (9, 75),
        ("PLT",),
    ),
    CategoryWords(
        "NTB",
        ("Stationery", "Notebooks"),
        (
            ("notebook", ("cloth", "leather", "kraft paper")),
            ("weekly planner", ("cloth", "leather")),
            ("sketchbook", ("cloth", "recycled paper")),
            ("journal", ("leather", "cloth")),
            ("address book", ("cloth",)),
        ),
        ("lies flat when open", "with a ribbon marker", "acid-free paper inside", "bound by hand"),
        (4, 38),
        ("PEN",),
    ),
    CategoryWords(
        "PEN",
        ("Stationery", "Pens & Desk"),
        (
            ("fountain pen", ("brass", "walnut")),
            ("pencil set", ("cedar",)),
            ("desk tidy", ("walnut", "steel")),
            ("ballpoint pen", ("brass", "steel")),
            ("letter tray", ("oak", "steel")),
        ),
        ("in a gift box", "for a desk worth sitting at", "ages beautifully", "made to be refilled and kept"),
        (3, 70),
        ("NTB",),
    ),
    CategoryWords(
        "BAG",
        ("Fashion", "Bags"),
        (
            ("tote bag", ("canvas", "leather")),
            ("backpack", ("waxed cotton", "recycled nylon")),
            ("wash bag", ("canvas", "waxed cotton")),
            ("shoulder bag", ("leather", "canvas")),
            ("lunch bag", ("waxed cotton",)),
        ),
        ("with an inside pocket", "water repellent", "folds flat", "carries more than it seems to"),
        (8, 140),
        ("SCF", "NTB"),
    ),
    CategoryWords(
        "SCF",
        ("Fashion", "Scarves & Jewellery"),
        (
            ("scarf", ("silk", "merino wool")),
            ("necklace", ("silver", "recycled gold")),
            ("earrings", ("silver", "brass")),
            ("bracelet", ("silver", "leather")),
            ("beanie", ("merino wool", "cashmere")),
        ),
        ("in a gift pouch", "light enough for every day", "made to be passed on", "finished by hand"),
        (9, 130),
        ("BAG",),
    ),
    CategoryWords(
        "TOY",
        ("Kids", "Toys & Games"),
        (
            ("puzzle", ("beech", "card")),
            ("soft toy", ("organic cotton", "felt")),
            ("building blocks", ("beech", "maple")),
            ("board game", ("card", "birch")),
            ("pull-along toy", ("beech", "maple")),
        ),
        ("for ages three and up", "painted with water-based colours", "loved at bedtime", "made for small hands"),
        (6, 60),
        ("PTY",),
    ),
    CategoryWords(
        "PTY",
        ("Celebration", "Party"),
        (
            ("bunting", ("cotton", "paper")),
            ("gift wrap set", ("recycled paper",)),
            ("paper lantern", ("rice paper",)),
            ("party cups", ("card",)),
            ("cake stand", ("card", "tin")),
        ),
        ("reusable year after year", "plastic free", "ready in minutes", "for tables of ten"),
        (3, 32),
        ("TOY", "CND"),
    ),
    CategoryWords(
        "SPA",
        ("Bath", "Soap & Towels"),
        (
            ("hand soap", ("olive oil", "shea butter")),
            ("bath towel", ("organic cotton", "bamboo cotton")),
            ("bath salts", ("sea salt", "magnesium")),
            ("face cloth set", ("organic cotton",)),
            ("bath mat", ("cotton", "cork")),
        ),
        ("kind to dry skin", "a hotel bathroom at home", "rinses clean and dries quickly", "free from palm oil"),
        (4, 58),
        ("CND", "CSH"),
    ),
    CategoryWords(
        "TEA",
        ("Food", "Tea & Coffee"),
        (
            ("loose leaf tea", ("black leaf", "green leaf", "herbal")),
            ("coffee beans", ("dark roast", "light roast")),
            ("teapot", ("glass", "ceramic", "cast iron")),
            ("coffee dripper", ("glass", "ceramic")),
            ("hot chocolate", ("dark cocoa", "milk cocoa")),
        ),
        ("for slow mornings", "makes four cups", "sourced from growers we know", "a gift for early risers"),
        (5, 62),
        ("MUG", "JAR"),
    ),
)

STYLES: Final[tuple[StyleWords, ...]] = (
    StyleWords(
        "vintage",
        ("vintage", "retro", "antique style", "heirloom"),
        ("cream", "duck egg blue", "faded rose", "sage"),
        ("Penny & Lark", "Old Mill Trading", "Rosehip Lane"),
        ("Inspired by finds from the flea market and the 1950s kitchen.", "It brings nostalgic charm and a story to tell."),
    ),
    StyleWords(
        "scandinavian",
        ("scandinavian", "nordic", "minimal", "pared-back"),
        ("white", "pale grey", "birch", "fog blue"),
        ("Fjord Studio", "Lagom Works", "Nordhus"),
        ("Clean lines and calm colours from the Nordic home.", "Quiet, functional design that lets the light in."),
    ),
    StyleWords(
        "rustic",
        ("rustic", "farmhouse", "country", "hand-hewn"),
        ("oat", "moss", "chestnut", "natural"),
        ("Barn & Bramble", "Hollow Oak", "Thistledown"),
        ("Made for muddy boots, long tables and open fires.", "Honest materials with the marks of the hand left on."),
    ),
    StyleWords(
        "industrial",
        ("industrial", "loft", "workshop", "raw"),
        ("black", "gunmetal", "charcoal", "rust"),
        ("Foundry No. 9", "Dockside Supply", "Rivet & Co"),
        ("Borrowed from the factory floor and built to last.", "Exposed joints and bare metal for the city loft."),
    ),
    StyleWords(
        "bohemian",
        ("bohemian", "folk", "hand-dyed", "moroccan"),
        ("terracotta", "saffron", "indigo", "plum"),
        ("Souk & Sun", "Marigold Caravan", "Indigo Road"),
        ("Rich colour and pattern gathered on the road.", "Layer it freely: nothing here needs to match."),
    ),
    StyleWords(
        "botanical",
        ("botanical", "floral", "meadow", "fern"),
        ("leaf green", "fern", "buttercup", "lilac"),
        ("Wild Verge", "Hortus", "Petal & Stem"),
        ("Drawn from pressed flowers and the greenhouse shelf.", "Leaves and blossom for those who miss the garden."),
    ),
    StyleWords(
        "playful",
        ("playful", "rainbow", "spotty", "cartoon animal"),
        ("bright red", "sunshine yellow", "sky blue", "bubblegum pink"),
        ("Hullabaloo", "Jolly Giraffe", "Skip & Hop Lane"),
        ("Bold, funny and made to raise a smile.", "Bright as a box of crayons."),
    ),
    StyleWords(
        "luxury",
        ("luxury", "art deco", "gilded", "velvet-lined"),
        ("gold", "emerald", "midnight blue", "ivory"),
        ("Maison Verrier", "Aurelia", "Belgrave House"),
        ("A small indulgence, finished to jeweller's standards.", "Opulent without apology."),
    ),
)
QUALITY: Final[tuple[str, ...]] = (
    "A good everyday choice",
    "Well made at a fair price",
    "A little better than it needs to be",
    "The finest that we stock",
)
VARIANTS: Final[tuple[str, ...]] = ("", "small", "large", "set of two", "set of four", "gift boxed")
