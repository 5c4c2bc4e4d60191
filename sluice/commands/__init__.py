"""One file per command: its module docstring is its help, `configure` declares its arguments, `run`
does it and returns the exit status."""
