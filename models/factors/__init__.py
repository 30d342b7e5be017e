"""Matrix factorisation: vectors of items whose inner product with a shopper's says what they may take, whoever took what before."""
