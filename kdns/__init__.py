"""kdns: the DNS server that a Kubernetes cluster's pods ask."""

__version__ = "0.1.0"
