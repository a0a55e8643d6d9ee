"""The part of a network that some classes need: how large, cut out, repaired, described."""
