"""Where objects come from: the API server, or manifests on disk."""
