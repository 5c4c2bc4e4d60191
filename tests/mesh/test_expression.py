from __future__ import annotations

import pytest

from mesh.expression import MAX_LENGTH, ExpressionError, compile_expression


def test_an_expression_matches_the_whole_value() -> None:
    get_or_put = compile_expression("GET|PUT")
    assert [get_or_put.matches(m) for m in ("GET", "PUT", "GETS", "PU", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_line_end_is_not_the_end_and_a_dot_is_no_line_end() -> None:
    assert not compile_expression("/a").matches("/a\n")
    assert not compile_expression("/a.*").matches("/a\nb")


def test_text_that_is_not_utf8_matches_nothing() -> None:
    assert not compile_expression(".*").matches("\ud800")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/(", "'/(' is not an RE2 expression: missing ): /("),
        ("(?=a)", "invalid perl operator: (?="),
        (r"(a)\1", "invalid escape sequence"),
        ("((a{100}){100}){100}", "invalid repetition size"),
        ("a" * (MAX_LENGTH + 1), "is 1025 characters long; at most 1024 are allowed"),
        ("\ud800", "UTF-8"),
    ],
)
def test_what_re2_does_not_accept_is_refused_with_its_reason(text: str, says: str) -> None:
    with pytest.raises(ExpressionError) as error:
        compile_expression(text)
    assert says in str(error.value)


def test_an_expression_that_would_backtrack_is_linear() -> None:
    assert not compile_expression("(a*)*b").matches("a" * 10_000)
