"""How a network runs and what it costs: its operations, the shapes they give, effects. The only room that executes
torch.fx; nothing here knows what a network is for.
"""
