"""From Kubernetes objects to DNS records, by the DNS specification."""
