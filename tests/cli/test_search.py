"""Showing what was found."""

from thmnayah.cli.search import marked


def test_a_highlight_is_shown_as_text() -> None:
    shown = marked("a &lt;b&gt; <mark>كلمة</mark> [red]\nc")

    assert shown.plain == "a <b> كلمة [red] c"
    assert [shown.plain[span.start : span.end] for span in shown.spans if span.style == "bold yellow"] == ["كلمة"]
