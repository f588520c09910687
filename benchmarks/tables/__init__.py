"""Tables from curves and cells (``results/tables``)."""
