"""The parts of the task definitions (tasks/*.yaml) that are more than a template.

The definitions are those of lm-evaluation-harness's polyglot branch (commit d21107eb), which the paper used.
"""

from typing import Any

from lm_eval.utils import general_detokenize

CONNECTORS = {"원인": "왜냐하면", "결과": "그래서"}


def klue_nli_context(row: dict[str, Any]) -> str:
    """Premise, then the hypothesis as a sentence that ends in a full stop."""
    hypothesis = row["hypothesis"].strip()
    stop = "" if hypothesis.endswith(".") else "."
    return f"{row['premise']}\n질문: {hypothesis}{stop} 참, 거짓, 중립 중 무엇인가요?\n정답:"


def klue_sts_context(row: dict[str, Any]) -> str:
    """The two sentences, each through the harness's own detokenizer."""
    first, second = general_detokenize(row["sentence1"]), general_detokenize(row["sentence2"])
    question = "질문: 문장 1과 문장 2는 서로 유사한 의미를 가지나요?"
    return f"{question}\n문장 1: {first}\n문장 2: {second}\n정답:"


def klue_sts_label(row: dict[str, Any]) -> int:
    """1 where the sentences are similar."""
    label: int = row["labels"]["binary-label"]
    return label


def kosbi_label(row: dict[str, Any]) -> int:
    """1 where the sentence is safe."""
    return ["unsafe", "safe"].index(row["sentence_label"])


def kobest_copa_context(row: dict[str, Any]) -> str:
    """One space before the connector; lm-eval's own kobest_copa puts two."""
    return f"{row['premise']} {CONNECTORS[row['question']]}"


def kobest_copa_choices(row: dict[str, Any]) -> list[str]:
    """The two alternatives."""
    return [row["alternative_1"], row["alternative_2"]]


def kobest_hellaswag_choices(row: dict[str, Any]) -> list[str]:
    """The four endings."""
    return [row[f"ending_{number}"] for number in range(1, 5)]
