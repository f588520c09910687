"""Studies that know a family, one file each, made for one table or figure."""
