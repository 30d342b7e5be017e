"""An example of a file of business rules that shows all that one may say."""

from __future__ import annotations

from typing import Final

#: YAML. Every rule in it is valid, and every key that a rule may have is used or explained.
EXAMPLE: Final = """\
# Business rules for `assay worker --business-rules FILE`. `assay rules check FILE` says what a file means, or what is wrong with it.
# The worker reads the file again within a second of a change; an invalid one leaves the former rules in force.
# Put a new file in place by renaming it (mv), so that no half-written one is ever read.
#
# Every rule may also have
#   name: Black Friday                    # for people only
#   for: {regions: [GB, IE], categories: [Kitchen]}
#                                         # only for these shoppers. regions: `country` of their newest event that named one ("unknown"
#                                         # where none did); categories: where their newest item lies. Left out: for everyone
#   from: 2026-11-27T00:00:00+01:00       # holds from then on
#   until: 2026-11-30T00:00:00+01:00      # and until just before then
# Categories are paths (Kitchen > Mugs) or one part of a path (Mugs). Upper and lower case are the same but in SKUs.
# An exclusion wins over a pin, a pin over an exposure cap, and of two pins for one place the earlier that may be shown.

# Products that are in no list. All that a rule says must fit; of a list one suffices.
exclude:
  - name: Nothing for adults
    categories: [Adult, Home > Bar > Spirits]
  - name: Almost sold out                 # products whose stock is unknown stay
    stock_below: 3
  - name: Contract ended
    brands: [Acme]
    until: 2027-01-01T00:00:00Z
  - name: No knives to Ireland, nor to whom we do not know
    skus: [KN-100, KN-200]
    for: {regions: [IE, unknown]}
  - name: Trifles
    price_below: 1.50                     # price_from: 1 <= price < price_below: 1.50
    currency: GBP                         # left out: whatever the currency

# Products that come later in the list: by a factor of their score, or behind all others.
bury:
  - name: Low margin
    brands: [Plainware]
    factor: 0.5
  - name: Out of season
    categories: [Christmas]
    to_end: true

# Products at fixed places (1 is the first). One that may not be shown is passed over, and counted in assay_pins_passed_over_total.
pin:
  - name: This week's offer
    sku: "85123A"
    position: 1
  - name: Kitchen campaign
    sku: MUG-7
    position: 3
    for: {categories: [Kitchen]}
    from: 2026-03-01T00:00:00+01:00
    until: 2026-04-01T00:00:00+02:00

# How much of a list one category or brand may take.
exposure_caps:
  - per: brand
    share: 0.25                           # of the k places, rounded down, but one at least
  - per: category
    level: 1                              # the first part of the path; left out: the whole path
    at_most: 8
  - name: Vouchers, if at all
    per: category
    only: [Vouchers]                      # each category (or brand) named here; left out: each of them all
    at_most: 1
"""
