"""Codes with a rate term on toy sources: VECVQ, ECVQ, transform coding, and their bounds."""
