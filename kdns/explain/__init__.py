"""Why a name resolves, or does not: said from a Corefile and the objects of a cluster alone."""
