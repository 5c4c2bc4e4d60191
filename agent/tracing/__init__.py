"""Spans of connections that the kernel carried (rule 26): what Envoys' spans cannot tell.

A connection of a pod in which no Envoy had a part is a trace of its own and claims no parent: the kernel sees
no trace context. An Envoy's connection to a backend is the child of the request that it carried.
"""
