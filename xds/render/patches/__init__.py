"""EnvoyFilters: changes of rendered resources. `values` reads what users wrote, `merging` joins messages,
`places` finds what is meant, `operations` does it, `guard` holds what must not be lost."""
