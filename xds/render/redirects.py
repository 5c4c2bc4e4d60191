"""Redirects (Gateway API, HTTPRequestRedirectFilter; istio/api, HTTPRedirect) as Envoy's RedirectAction."""

from __future__ import annotations

from envoy_data_plane.envoy.config.route.v3 import RedirectAction, RedirectActionRedirectResponseCode

from mesh.model import PathMatch, Redirect
from xds.render.paths import path_rewrite

_CODES = {
    301: RedirectActionRedirectResponseCode.MOVED_PERMANENTLY,
    302: RedirectActionRedirectResponseCode.FOUND,
    303: RedirectActionRedirectResponseCode.SEE_OTHER,
    307: RedirectActionRedirectResponseCode.TEMPORARY_REDIRECT,
    308: RedirectActionRedirectResponseCode.PERMANENT_REDIRECT,
}
_DEFAULT_PORTS = {"http": 80, "https": 443}


def redirect_action(redirect: Redirect, match: PathMatch, port: int, *, tls: bool) -> RedirectAction:
    """At a `port` of a service, which stands for the listener's of the specification, or of a Gateway, where
    `tls` may end."""
    action = RedirectAction(
        scheme_redirect=redirect.scheme,
        host_redirect=redirect.hostname or "",
        port_redirect=_port(redirect, port, "https" if tls else "http"),
        response_code=_CODES[redirect.status],
    )
    change = redirect.path
    if change is not None and change.kind == "full":
        action.path_redirect = change.value
    else:
        for name, value in path_rewrite(match, change).items():
            setattr(action, name, value)
    return action


def _port(redirect: Redirect, listener: int, spoken: str) -> int:
    """The port to write, 0 for none: then Envoy keeps the one of the client's Host.

    HTTPRequestRedirectFilter.port: unset, it is the default of the scheme if one is set, else the
    listener's; and the default port of the scheme is not written. Envoy keeps the port of the client's Host
    unless told another, so where that Host is kept and has an unusual port, even the default is written.
    """
    if redirect.port is None:
        return 0
    if redirect.port == "dialled":
        return listener
    scheme = redirect.scheme or spoken
    default = _DEFAULT_PORTS.get(scheme, 0)
    derived = (default if redirect.scheme else 0) or listener
    port = derived if redirect.port == "derived" else redirect.port
    host_has_port = not redirect.hostname and listener != _DEFAULT_PORTS[spoken]
    return 0 if port == default and not host_has_port else port
