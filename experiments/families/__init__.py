"""Options, defaults and commands of each family, one module each: ``python -m FAMILY``."""
