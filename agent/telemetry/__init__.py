"""Istio's standard metrics, made on the node: of requests and of the TCP connections that Envoys carry from
their access records, of all other TCP from the kernel's counts, never both for one connection (rule 25). One
registry for each pod, served in its own network namespace as Istio's proxy does.
"""
