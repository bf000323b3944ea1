"""For how long the API server is believed while it says nothing, where nobody says otherwise."""

from typing import Final

WATCH_SILENCE_SECONDS: Final = 150.0
"""A healthy server sends a bookmark about every minute; a watch that is silent for longer than two
of them, though nothing has closed it, is left for a new one."""
AUDIT_EVERY: Final = 1800.0
"""Seconds between two audits of a resource, on average; 0 for none."""
