"""The demo: a small shop of five services, and the tour that changes its rules and looks what happens."""
