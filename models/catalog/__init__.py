"""The catalogue in memory: products as dense rows, their vectors, and the index over them."""
