"""Brickyard: networks cut along their depth and across their width, and put together anew. Rooms and their rules are
in docs/architecture.md; nothing but rooms lies here.
"""
