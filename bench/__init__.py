"""The figures of the README: `make bench`. Ratios, measured side by side in one run on one pinned CPU."""
