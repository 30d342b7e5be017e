"""The page at ``/``: what the API answers, for somebody who opened it in a browser."""

from __future__ import annotations

from typing import Final

_ROWS: Final = (
    ("/v1/users/{id}/recommendations", "The newest list of a known user, each product with its reasons."),
    ("/v1/sessions/{id}/recommendations", "The same for a session that has not logged in."),
    ("/v1/items/{sku}/similar?k=20&amp;country=", "Products near a product, by its text and by shared sessions."),
    ("/v1/trending?category=&amp;k=20&amp;country=", "What is popular now: show it to a shopper whom nothing is known of."),
    (
        "/v1/search?q=&amp;user=&amp;category=&amp;limit=20",
        "Products that fit what a shopper typed, by word and by meaning (<code>assay serve --search</code>).",
    ),
    ("/v1/valuation?dimension=overall", "Rolling metrics and money of each data asset: 1m, 5m, 1h, 24h, 7d, total."),
    ("/healthz", "Whether the process can go on."),
    ("/readyz", "Whether it has read what was there when it started."),
    ("/metrics", "Prometheus."),
    ("/openapi.json", "All of this, for machines (OpenAPI 3.1)."),
)

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:3rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}"
    "td{padding:.3rem 1rem .3rem 0;vertical-align:top}code{font:14px ui-monospace,monospace}"
    "@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}a{color:#8ab4f8}}"
)

PAGE: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    f"<title>Assay read API</title><style>{_STYLE}</style><h1>Assay</h1>"
    "<p>The read API: recommendations, and what each data asset did for them. Everything is <code>GET</code> and JSON. With a key set,"
    " <code>/v1</code> and <code>/metrics</code> want <code>Authorization: Bearer &lt;key&gt;</code>.</p><table>"
    + "".join(f"<tr><td><code>{path}</code><td>{about}" for path, about in _ROWS)
    + "</table></html>"
)
