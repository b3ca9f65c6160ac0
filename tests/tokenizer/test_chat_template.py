"""A template that asks for the date is given the same one on every day, in whatever form it asks."""

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from bllossom.tokenizer.chat_template import TEMPLATE_DATE, asks_for_date, told_date, with_fixed_date


def rendered(template: str) -> str:
    [text], _ = render_jinja_template([[{"role": "user", "content": "a"}]], chat_template=template)
    return str(text)


@pytest.mark.parametrize("form", ["%d %b %Y", "%Y-%m-%d", "%A, %B %d", "%H:%M:%S", "%-d %y %I %p"])
def test_the_date_is_that_of_strftime(form: str) -> None:
    asking = f"  {{% if strftime_now is defined %}}\n{{{{ strftime_now('{form}') }}}}{{% endif %}}!"
    assert rendered(with_fixed_date(asking)) == f"{TEMPLATE_DATE.strftime(form)}!"
    assert rendered(asking).endswith("!")


def test_it_is_known_inside_loops_and_macros() -> None:
    asking = "{% macro day() %}{{ strftime_now('%Y') }}{% endmacro %}{% for m in messages %}{{ day() }}{% endfor %}"
    assert rendered(with_fixed_date(asking)) == "2024"


def test_a_template_that_asks_for_none_stays_as_it_is() -> None:
    template = "\n{{ messages[0]['content'] }}"
    assert with_fixed_date(template) == template
    assert (asks_for_date(template), told_date(template)) == (False, "")
    assert "always given 2024-07-26" in told_date("{{ strftime_now('%Y') }}")
