"""Windows that the watermark has passed, and the messages about them."""
