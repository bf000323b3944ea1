"""One module per directive, and the chain they form."""
