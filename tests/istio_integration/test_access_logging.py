"""Access logs in MeshConfig and Telemetry: what is read, what is refused and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from istio_integration import log_format
from mesh.model import (
    BUILT_IN_LOG,
    DEFAULT_TEXT,
    AccessLogProvider,
    AccessLogRule,
    MeshAccessLogging,
    MeshConfig,
    Telemetry,
)
from mesh.observability.cel import CelError, check
from tests.istio_integration.test_authorization_policy import config
from tests.mesh.dialects.objects import obj
from xds.dialects import read

OTEL = "otel.o.svc.cluster.local"


def telemetry(rule: Any) -> Any:
    return obj("telemetry.istio.io/v1", "Telemetry", {"accessLogging": [rule]})


def rule(written: Any) -> AccessLogRule:
    fragment = read(telemetry(written))
    assert fragment.valid, fragment.problems
    (noun,) = fragment.nouns
    assert isinstance(noun, Telemetry)
    return noun.logging[0]


def logging(text: str) -> MeshAccessLogging:
    fragment = config(text)
    assert fragment.valid, fragment.problems
    (noun,) = fragment.nouns
    assert isinstance(noun, MeshConfig)
    return noun.access_logging


def test_every_field_of_access_logging_is_read() -> None:
    found = rule(
        {
            "match": {"mode": "SERVER"},
            "providers": [{"name": "b"}, {"name": "a"}],
            "disabled": True,
            "filter": {"expression": "response.code >= 400"},
        }
    )
    assert found == AccessLogRule(("ingress",), ("b", "a"), True, "response.code >= 400")
    assert rule({}) == AccessLogRule()


@pytest.mark.parametrize(
    ("written", "field", "says"),
    [
        ({"match": {"mode": "BOTH"}}, "match.mode", "one of CLIENT_AND_SERVER, CLIENT, SERVER"),
        ({"disabled": "yes"}, "disabled", "true or false"),
        ({"filter": {"expression": "respnse.code > 1"}}, "filter.expression", "respnse.code is no attribute"),
        ({"providers": [{"nam": "a"}]}, "providers[0].nam", "unknown field"),
        ({"sampling": 1}, "sampling", "unknown field"),
    ],
)
def test_what_cannot_be_read_is_named_and_has_no_effect(written: Any, field: str, says: str) -> None:
    fragment = read(telemetry(written))
    assert not fragment.valid and fragment.nouns == ()
    found = {problem.field: problem.message for problem in fragment.problems}
    assert says in found[f"spec.accessLogging[0].{field}"]


def test_without_a_word_nobody_logs_and_istios_own_provider_may_be_named() -> None:
    assert logging("rootNamespace: root") == MeshAccessLogging((BUILT_IN_LOG,))
    assert DEFAULT_TEXT.startswith('[%START_TIME%] "%REQ(:METHOD)%') and DEFAULT_TEXT.endswith("\n")


def test_a_file_for_the_whole_mesh_is_a_provider_unless_default_ones_are_named() -> None:
    found = logging("accessLogFile: /dev/stdout\naccessLogFormat: '%PROTOCOL%'")
    file = AccessLogProvider("accessLogFile", "file", "%PROTOCOL%\n", path="/dev/stdout")
    envoy = AccessLogProvider("envoy", "file", "%PROTOCOL%\n", path="/dev/stdout")
    assert found == MeshAccessLogging((file, envoy), ("accessLogFile",))
    assert logging("accessLogFile: ''").defaults == ()
    both = "accessLogFile: /dev/stdout\ndefaultProviders: {accessLogging: [envoy]}"
    assert logging(both).defaults == ("envoy",)


def test_json_has_istios_labels_or_those_of_the_format() -> None:
    (_, envoy) = logging("accessLogFile: /dev/stdout\naccessLogEncoding: JSON").providers
    labels = json.loads(envoy.labels)
    assert (len(labels), envoy.text) == (24, "")
    assert labels["path"] == "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"
    own = 'accessLogEncoding: JSON\naccessLogFormat: \'{"b": 1, "a": "%PROTOCOL%"}\''
    assert logging(own).providers[0].labels == '{"a": "%PROTOCOL%", "b": 1}'


def test_the_providers_of_mesh_config_are_read() -> None:
    found = logging(
        f"""
extensionProviders:
- {{name: plain, envoyFileAccessLog: {{}}}}
- {{name: text, envoyFileAccessLog: {{path: /dev/stderr, logFormat: {{text: hello}}, omitEmptyValues: true}}}}
- {{name: labels, envoyFileAccessLog: {{logFormat: {{labels: {{a: {{b: "%PROTOCOL%"}}}}}}}}}}
- {{name: otel, envoyOtelAls: {{service: {OTEL}, port: 4317, logFormat: {{labels: {{a: "%PROTOCOL%"}}}}}}}}
- {{name: named, envoyOtelAls: {{service: {OTEL}, port: 4317, logName: mine, logFormat: {{text: x}}}}}}
- {{name: envoy, envoyFileAccessLog: {{logFormat: {{text: own}}}}}}
defaultProviders: {{accessLogging: [otel, text]}}
"""
    )
    out = "/dev/stdout"
    assert found.defaults == ("otel", "text")
    assert {provider.name: provider for provider in found.providers} == {
        "plain": AccessLogProvider("plain", "file", DEFAULT_TEXT, path=out),
        "text": AccessLogProvider("text", "file", "hello\n", path="/dev/stderr", omit_empty=True),
        "labels": AccessLogProvider("labels", "file", labels='{"a": {"b": "%PROTOCOL%"}}', path=out),
        "otel": AccessLogProvider(
            "otel",
            "opentelemetry",
            DEFAULT_TEXT.rstrip("\n"),
            '{"a": "%PROTOCOL%"}',
            service=OTEL,
            port=4317,
            log_name="otel_envoy_accesslog",
        ),
        "named": AccessLogProvider("named", "opentelemetry", "x", service=OTEL, port=4317, log_name="mine"),
        "envoy": AccessLogProvider("envoy", "file", "own\n", path=out),
    }


OTELS = "extensionProviders: [{name: a, "
FILE = "extensionProviders: [{name: a, envoyFileAccessLog: "


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("accessLogFile: /var/log/a", "accessLogFile", "would be a file of the node"),
        ("accessLogEncoding: XML", "accessLogEncoding", "one of TEXT, JSON"),
        ("accessLogFormat: '%FOO%'", "accessLogFormat", "%FOO% is not supported"),
        ("accessLogEncoding: JSON\naccessLogFormat: '%PROTOCOL%'", "accessLogFormat", "is not JSON"),
        ("accessLogEncoding: JSON\naccessLogFormat: '[]'", "accessLogFormat", "must be a mapping"),
        ('accessLogEncoding: JSON\naccessLogFormat: \'{"a": "%X%"}\'', "accessLogFormat.a", "%X%"),
        (
            "defaultProviders: {accessLogging: [b]}",
            "defaultProviders.accessLogging[0]",
            "no extension provider",
        ),
        (FILE + "{path: /tmp/a}}]", "extensionProviders[0].envoyFileAccessLog.path", "a file of the node"),
        (
            FILE + "{logFormat: {labels: {a: []}}}}]",
            "extensionProviders[0].envoyFileAccessLog.logFormat.labels.a",
            "is no label",
        ),
        (
            FILE + "{logFormat: {text: a, labels: {a: b}}}}]",
            "extensionProviders[0].envoyFileAccessLog.logFormat",
            "both",
        ),
        (
            OTELS + "envoyOtelAls: {service: s, port: 1, logFormat: {labels: {a: 1}}}}]",
            "extensionProviders[0].envoyOtelAls.logFormat.labels.a",
            "is no label",
        ),
        (
            "extensionProviders: [{name: a, envoyOtelAls: {service: s}}]",
            "extensionProviders[0].envoyOtelAls.port",
            "required",
        ),
        (
            "extensionProviders: [{name: a, envoyHttpAls: {service: s, port: 1}}]",
            "extensionProviders[0].envoyHttpAls",
            "not supported",
        ),
        (
            "extensionProviders: [{name: a, envoyTcpAls: {service: s, port: 1}}]",
            "extensionProviders[0].envoyTcpAls",
            "not supported",
        ),
    ],
)
def test_what_is_wrong_in_mesh_config_is_named(text: str, field: str, says: str) -> None:
    fragment = config(text)
    assert not fragment.valid
    found = {problem.field: problem.message for problem in fragment.problems}
    assert says in found[f"data.mesh.{field}"]


#: Formats that Envoy refuses, and what is said of them.
WRONG_FORMATS = {
    "%": "begins no command",
    "100% of": "begins no command",
    "%protocol%": "begins no command",
    "%REQ(A):x%": "begins no command",
    "%REQ(A)%:5%": "begins no command",
    "%REQ(a\n)%": "begins no command",
    "%REQ%": "takes",
    "%REQ()%": "takes",
    "%REQ(A?B?C)%": "takes",
    "%REQ(a b)%": "takes",
    "%REQ(\u00e9)%": "takes",
    "%PROTOCOL(x)%": "takes no parentheses",
    "%PROTOCOL:3%": "takes no parentheses",
    "%FILTER_STATE(a:FOO)%": "takes",
    "%DYNAMIC_METADATA%": "takes",
    "%CLUSTER_METADATA(a:b):3%": "takes no length",
    "%METADATA(X:a)%": "not supported",
    "%FOO%": "not supported",
}

#: Expressions that are read, and those that are not (of which Envoy refuses most).
RIGHT_EXPRESSIONS = (
    "response.code >= 400",
    "request.path.startsWith('/a') && request.method in ['GET', \"POST\"]",
    "!has(request.headers.x) || request.headers['user-agent'].contains('bot')",
    "int(request.headers['n']) > 3 && request.path.size() > 3 && size(request.path) < -1",
    "request.duration > duration('1.5s') || request.url_path.matches('^/a.*[0-9]')",
    "connection.mtls == true && (source.port != 1 || destination.address.endsWith(':80'))",
    "metadata.filter_metadata['a']['b'] == 'it\\'s \\\\ \\n' || xds.cluster_name == 'a'",
    "(" * 7 + "1 == 1" + ")" * 7,
    "int(" * 7 + "request.headers['a'].size()" + ")" * 7,
    "!(1 == " * 3 + "metadata.a.b.c.d['a']['b']['c']['d']['e']['f'].size()" + ")" * 3,
    " || ".join(["request.path == 'a' && response.code == 1"] * 40),
)
WRONG_EXPRESSIONS = {
    "": "lacks a value",
    "response.code >=": "lacks a value",
    "response.code = 400": "cannot be read",
    "a.b == 1": "a.b is no attribute",
    "request.pth == 'a'": "request has path",
    "request.path.host == 'a'": "has no members",
    "request.nofunc()": "is no attribute",
    "request.path.nofunc()": "nofunc is not supported",
    "nofunc(1)": "nofunc is not supported",
    "string(response.code) == '1'": "string is not supported",
    "request.path.contains('a', 'b')": "lacks ')'",
    "request.path.matches('(')": "missing )",
    "request.path.matches(request.method)": "takes a text",
    "has(request)": "takes a member",
    "duration('x') > duration('1s')": "takes a text such as",
    "9223372036854775808 == 1": "too large",
    "request.headers.exists(h, h == 'x')": "exists is not supported",
    "'\\q' == 'a'": "cannot be read",
    "1 + 1 == 2": "cannot be read",
    "response.code == 1 response.code": "where it should end",
    "response.code == 1 ? true : false": "cannot be read",
    "(response.code == 1": "lacks ')'",
    "(" * 9 + "true" + ")" * 9: "nested",
    "request.headers" + "['a']" * 9: "behind one another",
    "response.code == 1" + " || true" * 300: "characters",
}


@pytest.mark.parametrize("text", WRONG_FORMATS)
def test_a_format_that_envoy_would_refuse_is_refused_with_a_word(text: str) -> None:
    fragment = config(f"accessLogFormat: {json.dumps(text)}")
    (problem,) = fragment.problems
    assert WRONG_FORMATS[text] in problem.message


def test_a_percent_sign_may_stand_twice_and_unicode_anywhere_else() -> None:
    text = "100%% \u00e9 %PROTOCOL%%PROTOCOL%"
    assert logging(f"accessLogFormat: {json.dumps(text)}").providers[0].text == text + "\n"


@pytest.mark.parametrize("text", RIGHT_EXPRESSIONS)
def test_an_expression_of_the_subset_is_taken(text: str) -> None:
    check(text)


@pytest.mark.parametrize("text", WRONG_EXPRESSIONS)
def test_any_other_expression_is_refused_with_a_word(text: str) -> None:
    with pytest.raises(CelError) as caught:
        check(text)
    assert WRONG_EXPRESSIONS[text] in str(caught.value)


def test_commands_are_known_once() -> None:
    assert not log_format.PLAIN & log_format.TAKING.keys()
