"""Istio's standard metrics, made on the node: of requests from Envoys' access records, of TCP connections
from the kernel's counts, never both for one connection (rule 25). One registry for each pod, served in its
own network namespace as Istio's proxy does.
"""
