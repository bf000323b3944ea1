"""What of a cluster's DNS would change if kdns took CoreDNS's place: said from its own objects."""
