"""What every room stands on, and what knows nothing of networks or images: errors, files whole or not at all, what
code a result depends on, work that can go on after a kill.
"""
