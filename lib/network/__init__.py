"""What ships: blocks and choices of them, recipes of every kind of network that is made here, and opening and saving
them. Fits nothing.
"""
