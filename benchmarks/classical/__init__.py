"""Classical codecs, as they are installed: the anchors of every comparison."""
