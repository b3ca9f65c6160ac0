"""The rows of the eight tasks: from a local folder or the hub, checked before anything is scored.

A local folder holds JSONL, one row a line:

    klue/{nli,sts,ynat}_validation.jsonl   kobest/{boolq,copa,hellaswag,sentineg}_test.jsonl   kosbi/kosbi_v*_test.jsonl

and, if few-shot examples are to come from training rows, `…_train.jsonl` beside them. Rows are read anew each time:
no cache stands between a changed file and its score.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from bllossom.errors import BllossomError

KOSBI_URL = "https://raw.githubusercontent.com/naver-ai/korean-safety-benchmarks/main/data/KoSBi/kosbi_v2_{split}.json"


class NliRow(BaseModel):
    """KLUE NLI."""

    premise: str
    hypothesis: str
    label: Literal[0, 1, 2] = Field(description="entailment, neutral, contradiction")


class StsLabels(BaseModel):
    """The labels of KLUE STS that are used."""

    binary: Literal[0, 1] = Field(alias="binary-label")


class StsRow(BaseModel):
    """KLUE STS."""

    sentence1: str
    sentence2: str
    labels: StsLabels


class YnatRow(BaseModel):
    """KLUE YNAT."""

    title: str
    label: Literal[0, 1, 2, 3, 4, 5, 6]


class KosbiRow(BaseModel):
    """KoSBi."""

    context: str
    sentence: str
    sentence_label: Literal["unsafe", "safe"]


class BoolqRow(BaseModel):
    """KoBEST BoolQ."""

    paragraph: str
    question: str
    label: Literal[0, 1]


class CopaRow(BaseModel):
    """KoBEST COPA."""

    premise: str
    question: Annotated[Literal["원인", "결과"], BeforeValidator(lambda text: str(text).strip())]
    alternative_1: str
    alternative_2: str
    label: Literal[0, 1]


class HellaswagRow(BaseModel):
    """KoBEST HellaSwag."""

    context: str
    ending_1: str
    ending_2: str
    ending_3: str
    ending_4: str
    label: Literal[0, 1, 2, 3]


class SentinegRow(BaseModel):
    """KoBEST SentiNeg."""

    sentence: str
    label: Literal[0, 1]


@dataclass(frozen=True)
class TaskData:
    """Where a task's rows are and what they hold."""

    row: type[BaseModel]
    files: str  # below the local folder, with {split} in it; a glob
    hub: tuple[str, str | None]  # data set and its configuration on the hub
    split: str  # the one that is evaluated


TASK_DATA = {
    "klue_nli": TaskData(NliRow, "klue/nli_{split}.jsonl", ("klue/klue", "nli"), "validation"),
    "klue_sts": TaskData(StsRow, "klue/sts_{split}.jsonl", ("klue/klue", "sts"), "validation"),
    "klue_ynat": TaskData(YnatRow, "klue/ynat_{split}.jsonl", ("klue/klue", "ynat"), "validation"),
    "kosbi": TaskData(KosbiRow, "kosbi/kosbi_v*_{split}.jsonl", ("json", None), "test"),
    "kobest_boolq": TaskData(BoolqRow, "kobest/boolq_{split}.jsonl", ("skt/kobest_v1", "boolq"), "test"),
    "kobest_copa": TaskData(CopaRow, "kobest/copa_{split}.jsonl", ("skt/kobest_v1", "copa"), "test"),
    "kobest_hellaswag": TaskData(
        HellaswagRow, "kobest/hellaswag_{split}.jsonl", ("skt/kobest_v1", "hellaswag"), "test"
    ),
    "kobest_sentineg": TaskData(SentinegRow, "kobest/sentineg_{split}.jsonl", ("skt/kobest_v1", "sentineg"), "test"),
}


def find_file(task: str, folder: Path, split: str) -> Path | None:
    """The file of one split of a task below `folder`; None where there is none.

    Raises:
        BllossomError: two files would do (two versions of KoSBi).
    """
    found = sorted(folder.glob(TASK_DATA[task].files.format(split=split)))
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise BllossomError(f"{task}: which of {names} is meant? Leave one of them in {folder}")
    return found[0] if found else None


def evaluated_file(task: str, folder: Path) -> Path:
    """The file that is evaluated.

    Raises:
        BllossomError: it is not there.
    """
    data = TASK_DATA[task]
    path = find_file(task, folder, data.split)
    if path is None:
        wanted = folder / data.files.format(split=data.split)
        raise BllossomError(
            f"{task}: there is no {wanted}; put it there, leave {task} out, or leave out data (the hub)"
        )
    return path


def evaluated_rows(task: str, folder: Path | None) -> list[dict[str, Any]]:
    """The checked rows that are evaluated, with the columns the task reads and no others.

    Raises:
        BllossomError: there are none, or a row lacks a column or holds a wrong label.
    """
    if folder is not None:
        path = evaluated_file(task, folder)
        return _check(task, _read(path), str(path))
    return _from_hub(task, TASK_DATA[task].split)


def train_rows(task: str, folder: Path | None) -> list[dict[str, Any]] | None:
    """Rows to draw few-shot examples from; None where the local folder has none."""
    if folder is None:
        return _from_hub(task, "train")
    path = find_file(task, folder, "train")
    return None if path is None else _check(task, _read(path), str(path))


def lm_eval_dataset(task: str, folder: str | None = None, **_: Any) -> dict[str, Any]:
    """The data set of a task as lm-eval takes it, named by each YAML in tasks/.

    `lm_eval --include_path bllossom/evaluation/tasks --metadata '{"folder": "…"}'` gives the folder; without it the
    hub's data are read.
    """
    from datasets import Dataset

    return {"test": Dataset.from_list(evaluated_rows(task, Path(folder) if folder else None))}


def _read(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise BllossomError(f"{path}:{number}: is not JSON ({error}); correct the line") from error


def _from_hub(task: str, split: str) -> list[dict[str, Any]]:
    from datasets import load_dataset

    name, configuration = TASK_DATA[task].hub
    try:
        if task == "kosbi":  # not on the hub; its authors' repository has v2, which the paper's harness loads
            rows = load_dataset(name, data_files=KOSBI_URL.format(split=split), split="train")
        else:
            rows = load_dataset(name, configuration, split=split)
    except Exception as error:  # datasets raises a dozen kinds, the network's among them
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BllossomError(
            f"{task}: its data cannot be fetched ({reason}); connect to the hub, or set data to a local folder"
        ) from error
    return _check(task, iter(rows), f"{name} {configuration or 'kosbi_v2'} {split}")


def _check(task: str, raw: Iterator[Any], origin: str) -> list[dict[str, Any]]:
    row_type = TASK_DATA[task].row
    rows = []
    for number, values in enumerate(raw, 1):
        try:
            rows.append(row_type.model_validate(values).model_dump(by_alias=True))
        except ValidationError as error:
            problem = error.errors()[0]
            column = ".".join(map(str, problem["loc"])) or "the row"
            columns = ", ".join(row_type.model_fields)
            raise BllossomError(
                f"{origin}: row {number}: {column}: {problem['msg']}; {task} reads the columns {columns}"
            ) from error
    if not rows:
        raise BllossomError(f"{origin} holds no rows; name a folder with the rows of {task}")
    return rows
