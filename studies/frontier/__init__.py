"""Networks that beat the shelf they come from: ours beside every rival within one budget after another."""
