"""What foretells a network's accuracy before it is tuned: a module each, called as in `assembly.rank` (see `Proxy` in
`..ranking`).
"""
