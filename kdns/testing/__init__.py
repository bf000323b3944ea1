"""An API server and an upstream that do as they are told, for tests."""
