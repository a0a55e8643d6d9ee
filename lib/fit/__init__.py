"""Closed forms and convex problems: sums of products in, weights out. Pure algebra on tensors and single layers; knows
no traced network, no images, no papers.
"""
