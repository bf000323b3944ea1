"""Sockets: UDP, TCP and exchanges with upstreams."""
