"""Two servers are asked the same, and where they differ is judged by the standard."""
