"""Images and their labels: where they come from, how files become pictures, how they are divided and loaded. Knows no
network.
"""
