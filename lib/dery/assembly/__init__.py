"""From a path to a network: what it is made of, prices, predicted gains, stitches, heads, ranking."""
