"""iREC: coding a sample in steps of a few nats with auxiliary variables (Flamich, Havasi, Hernández-Lobato, 2020)."""
