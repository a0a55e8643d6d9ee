"""The choice of blocks within budgets as a path through a layered graph (DeRy, section 3.4): numbers only, no
torch.
"""
