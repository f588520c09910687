"""The ruler: data sets, metrics, classical codecs, results, tables, figures."""
