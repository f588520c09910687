"""Curves from cells and publications, their BD-rates, and the search for a point on them."""
