"""The xDS transport protocol as a machine without a socket: both ends, state of the world and delta.

`session` is the server's end of one stream, `subscriber` the client's. Bytes go in, bytes and
values come out; who carries the bytes, and when, is for `xds.server`, `agent.relay` and
`agent.client`.
"""
