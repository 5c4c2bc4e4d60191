"""Who is routed, where to and by whom: routes, DestinationRules and Gateways, and who needs an Envoy for
it."""
