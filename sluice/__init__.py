"""The command line and the embedded mesh: the only room that knows all the others."""
