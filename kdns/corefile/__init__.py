"""Corefile text to directives, every error with file and line."""
