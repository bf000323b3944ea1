"""The subcommands of `kdns`, one module each."""
