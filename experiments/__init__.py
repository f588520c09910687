"""Sacred wiring: the only library code that knows Sacred."""
