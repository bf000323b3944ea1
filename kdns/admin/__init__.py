"""HTTP for probes, scrapers and people."""
