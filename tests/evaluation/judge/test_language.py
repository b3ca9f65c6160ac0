"""The language of an answer, told where it can be told and left open where it cannot."""

import pytest

from bllossom.errors import ConfigError
from bllossom.evaluation.judge.language import Languages, is_wrong, primary

pytest.importorskip("lingua", reason="lingua is not installed (pip install 'bllossom[judge]')")


@pytest.fixture(scope="module")
def languages() -> Languages:
    return Languages(["en", "ko", "ja", "de"])


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The capital of Korea is Seoul, and it lies on the river Han.", "en"),
        ("한국의 수도는 서울이며 한강을 끼고 있습니다.", "ko"),
        ("韓国の首都はソウルで、漢江に面しています。", "ja"),
        ("Die Hauptstadt von Korea ist Seoul, und sie liegt am Fluss Han.", "de"),
        (
            "다음과 같이 쓰면 됩니다.\n```python\nfor number in range(10):\n    print('the number is', number)\n```",
            "ko",
        ),
        ("자세한 설명은 https://docs.python.org/3/library/functions.html 에 나와 있습니다.", "ko"),
        ("```python\nprint('the quick brown fox')\n```", None),
        ("42", None),
        ("OK", None),
        ("", None),
    ],
)
def test_languages(languages, text, language):
    assert languages.of(text) == language


def test_only_a_language_that_is_known_to_differ_is_wrong():
    assert is_wrong("en", "ko")
    assert not is_wrong("ko", "ko")
    assert not is_wrong(None, "ko")
    assert not is_wrong("en", None)


@pytest.mark.parametrize(("codes", "message"), [(["en", "korean"], "'korean' is no language"), (["en"], "two or more")])
def test_codes_that_make_no_sense(codes, message):
    with pytest.raises(ConfigError, match=message):
        Languages(codes)


def test_a_tag_with_a_region_is_its_language():
    assert [primary(code) for code in ("ko", "ko-KR", "EN_us", None)] == ["ko", "ko", "en", None]
