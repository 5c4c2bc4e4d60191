"""The room of the Istio dialect: objects of `networking.istio.io` and `security.istio.io` to Fragments.

Empty so far. Until its kinds are here, an Istio object that is applied gives a Problem ("unknown kind") and
changes nothing, as any other kind that no dialect reads.
"""
