"""Along the depth: atomic nodes with one tensor between them, how that tensor is laid out, how long nodes take (DeRy,
section 3.1).
"""
