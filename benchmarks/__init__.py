"""The ruler: data sets, metrics, classical codecs, results, tables, figures."""

TESSERA_METHODS = True  # core.registry looks for methods here
