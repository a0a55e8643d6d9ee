"""Similarity indices s(X, X'), a module each, called as `similarity.index` names it (see `..index.Index`)."""
