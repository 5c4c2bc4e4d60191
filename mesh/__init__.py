"""The pure core of the mesh: what it is, what it decides, and what follows for Envoy and the kernel.

Everything here is a function of its arguments. It knows no clock, socket, event loop, random
source, YAML, Envoy or kernel.
"""
