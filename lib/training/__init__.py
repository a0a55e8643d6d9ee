"""Gradient training: one loop for networks of the zoo, reassembled and assembled ones; the images' random changes."""
