"""Measuring: one image, one data set, seconds, memory, and what was measured on."""
