"""Access logs of connections that no Envoy carries (rule 20): one line when an end of one is closed, in the
format that MeshConfig or Telemetry gives, beside what the pod's Envoy writes.

Never both for one connection (rule 25): the kernel tells of those that it counts.
"""
