"""Product search: by word and by meaning, fused, and bent a little towards what the shopper likes."""
