"""How alike what nodes make is: indices on activations of the same images (DeRy, section 3.2)."""
