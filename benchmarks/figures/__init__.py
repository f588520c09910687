"""Figures as data, and their rendering on paper (``results/figures``)."""
