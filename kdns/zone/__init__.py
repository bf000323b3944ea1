"""Names and what they hold, and how a look-up ends."""
