"""Maps of many images: what resembles what."""
