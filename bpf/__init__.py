"""The eBPF data path: C sources, the object clang builds from them, and `layout`, their Python mirror."""
