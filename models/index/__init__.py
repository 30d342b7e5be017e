"""Vector search: one contract, exact and approximate twins on CPU and GPU, live upserts and deletes."""
