"""Networks of photographs whose weights others have published, layer by layer."""
