"""The report page (``results/report``): its data, its sections, its scripts."""
