"""The ablation's table, curves and three answers, from the folder that configs/ablation left.

    python scripts/ablation_results.py RUN

Intervals are over seeds: mean ± t · s / √n of Student's distribution at 95 %; of a difference, over the differences of
the runs of one seed. Curves are the training loss, of text that no step had seen before, as bits per byte. Results go
to docs/results/ablation.md, .json, and an .svg for each picture; seeds that are not whole are left out, and counted.
"""

import argparse
import json
import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import machine

# Student's t at 97.5 % by degrees of freedom (any table), for 2 to 10 seeds.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
MODELS = (
    *("base", "expanded", "llama2-kosft", "llama2-ko", "bllossom-ko", "bllossom-bi", "bllossom-bi-kosft"),
    *("bllossom-bi-bisft", "llama2-bi", "llama2-bi-flops"),
)
ONCE = ("base", "expanded")
PRETRAINED = ("llama2-ko", "llama2-bi", "llama2-bi-flops", "bllossom-ko", "bllossom-bi")
TUNED = ("bllossom-bi-kosft", "bllossom-bi-kosft-all")
BI, OLD, OLD_FLOPS = "bllossom-bi", "llama2-bi", "llama2-bi-flops"
WINDOW = 25  # steps under a curve's point
RESULTS = Path(__file__).parent.parent / "docs/results/ablation.md"
COLOURS = {BI: "#0072B2", OLD: "#D55E00", OLD_FLOPS: "#E69F00"}


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; None where there is one seed only."""

    mean: float
    half: float | None
    values: list[float]

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.half is not None and abs(self.mean) > self.half


def interval(values: Sequence[float]) -> Interval:
    """Over the values of the seeds."""
    mean, count = statistics.fmean(values), len(values)
    half = STUDENT[count - 1] * statistics.stdev(values) / math.sqrt(count) if count > 1 else None
    return Interval(mean, half, list(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    run, output = options.run, options.output
    seeds = [seed for seed in range(10) if whole(run, seed)]
    if not seeds:
        raise SystemExit(f"{run}: no seed is whole; run bllossom run configs/ablation/recipe.yaml first")
    found = measure(run, seeds)
    begun = sorted({path.name.partition("-seed-")[2][:1] for path in run.glob("*-seed-*")} - set(map(str, seeds)))
    output.with_suffix(".json").write_text(json.dumps(as_json(found), indent=1) + "\n", encoding="utf8")
    for axis, title in (("bytes", "bytes of text read"), ("flops", "floating-point operations")):
        draw(curves(run, seeds, axis), title, output.with_name(f"{output.stem}-{axis}.svg"))
    output.write_text(wrapped(page(found, run, seeds, begun, output.stem)), encoding="utf8")
    print(output)


def manifest(run: Path, step: str) -> dict[str, Any]:
    return json.loads((run / step / "manifest.json").read_text(encoding="utf8"))


def whole(run: Path, seed: int) -> bool:
    """Whether every model of a seed, and every evaluation, is there."""
    names = [name for name in MODELS if name not in ONCE]
    steps = [*names, *TUNED, *(f"eval-{name}" for name in names)]
    return all((run / f"{step}-seed-{seed}/manifest.json").is_file() for step in steps)


def measure(run: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Bits per byte of each model by language, losses of held-out answers, and the differences that answer."""

    def bits(model: str, language: str) -> list[float]:
        steps = [f"eval-{model}"] if model in ONCE else [f"eval-{model}-seed-{seed}" for seed in seeds]
        return [manifest(run, step)["figures"]["bits_per_byte"][language] for step in steps]

    def minus(one: Sequence[float], other: Sequence[float]) -> Interval:
        return interval([a - b for a, b in zip(one, other, strict=True)])

    answers = {
        name: [manifest(run, f"{name}-seed-{seed}")["figures"]["heldout_loss"]["outputs"] for seed in seeds]
        for name in TUNED
    }
    english = {name: bits(name, "en") for name in PRETRAINED}
    return {
        "bits_per_byte": {m: {la: interval(bits(m, la)) for la in ("ko", "en")} for m in MODELS},
        "heldout_answers": {name: interval(values) for name, values in answers.items()},
        "same_bytes": minus(bits(BI, "ko"), bits(OLD, "ko")),
        "same_flops": minus(bits(BI, "ko"), bits(OLD_FLOPS, "ko")),
        "english_new": minus(english[BI], english["bllossom-ko"]),
        "english_old": minus(english[OLD], english["llama2-ko"]),
        "english_of_vocabulary": minus(english[BI], english[OLD]),
        "outputs_only": minus(answers[TUNED[0]], answers[TUNED[1]]),
        "cost": {name: cost(run, f"{name}-seed-{seeds[0]}") for name in PRETRAINED},
        "seconds": {str(seed): seconds(run, seed) for seed in seeds},
    }


def cost(run: Path, step: str) -> dict[str, float]:
    """What a pretraining read and computed."""
    figures = manifest(run, step)["figures"]
    shares = [share for name, share in figures["mixture"].items() if "/" not in name]
    return {
        "tokens": figures["tokens"],
        "bytes": round(sum(share["bytes"] for share in shares)),
        "flops": log(run, step)[-1]["flops"],
    }


def seconds(run: Path, seed: int) -> float:
    """Wall time of all steps of a seed, pauses and other work on the machine with it."""
    return sum(manifest(run, path.name)["run"]["wall_seconds"] for path in run.glob(f"*-seed-{seed}") if path.is_dir())


def log(run: Path, step: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / step / "logs/train.jsonl").read_text(encoding="utf8").splitlines()]


def curves(run: Path, seeds: Sequence[int], axis: str) -> list[dict[str, Any]]:
    """Points of Korean bits per byte over bytes or operations: the mean over seeds, lowest and highest."""
    points = []
    for model in COLOURS:
        each = [curve(run, f"{model}-seed-{seed}", axis) for seed in seeds]
        for at in range(WINDOW, min(map(len, each)) + 1, 5):
            values = [line[at - 1][1] for line in each]
            spread = {"low": min(values), "high": max(values)}
            points.append({"model": model, "x": each[0][at - 1][0], "y": statistics.fmean(values)} | spread)
    return points


def curve(run: Path, step: str, axis: str) -> list[tuple[float, float]]:
    """After each step, what it had read or computed, and the mean of the last WINDOW steps' Korean bits per byte."""
    mixture = manifest(run, step)["figures"]["mixture"]
    tokens_a_byte = mixture["ko"]["tokens"] / mixture["ko"]["bytes"]
    everything = sum(share["bytes"] for name, share in mixture.items() if "/" not in name)
    lines, losses, points = log(run, step), [], []
    for line in lines:
        losses.append(line.get("loss/ko"))
        recent = [loss for loss in losses[-WINDOW:] if loss is not None]
        x = line["flops"] if axis == "flops" else everything * line["step"] / len(lines)
        points.append((x, statistics.fmean(recent) * tokens_a_byte / math.log(2) if recent else math.nan))
    return points


def draw(points: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    import altair

    colour = altair.Color(
        "model:N", title=None, scale=altair.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    ).legend(orient="top")
    chart = altair.Chart(altair.Data(values=list(points)))
    x = altair.X("x:Q", title=title, axis=altair.Axis(format="~s"))
    y = altair.Y("y:Q", title="Korean bits per byte", scale=altair.Scale(zero=False))
    band = chart.mark_area(opacity=0.2).encode(x=x, y=altair.Y("low:Q", title=""), y2="high:Q", color=colour)
    line = chart.mark_line().encode(x=x, y=y, color=colour, strokeDash=altair.StrokeDash("model:N", legend=None))
    whole = (band + line).properties(width=560, height=280, background="white")
    whole.configure_legend(symbolOpacity=1).save(path)


def korean_tokens(run: Path, seed: int) -> float:
    """How many times the tokens the old pieces take for as much Korean."""
    old, new = (manifest(run, f"{name}-seed-{seed}")["figures"]["mixture"]["ko"] for name in (OLD, BI))
    return (old["tokens"] / old["bytes"]) / (new["tokens"] / new["bytes"])


def wrapped(text: str) -> str:
    """The page with its paragraphs and lists in lines of 120; tables, headings and pictures stay."""
    blocks = []
    for block in text.split("\n\n"):
        if block.startswith("- "):
            items = [" ".join(item.split()) for item in block.split("\n- ")]
            fill = [textwrap.fill(item.removeprefix("- "), 118, break_on_hyphens=False) for item in items]
            blocks.append("\n".join("- " + item.replace("\n", "\n  ") for item in fill))
        elif block.lstrip().startswith(("|", "#", "!")):
            blocks.append(block)
        else:
            blocks.append(textwrap.fill(" ".join(block.split()), 120, break_on_hyphens=False))
    return "\n\n".join(block.strip("\n") for block in blocks) + "\n"


def as_json(found: Any) -> Any:
    if isinstance(found, Interval):
        return {"mean": found.mean, "half_of_95_percent": found.half, "seeds": found.values}
    return {key: as_json(value) for key, value in found.items()} if isinstance(found, dict) else found


def show(found: Interval, sign: str = "") -> str:
    return f"{found.mean:{sign}.3f}" + ("" if found.half is None else f" ± {found.half:.3f}")


def by_seed(found: Interval) -> str:
    return ", ".join(f"{value:+.3f}" for value in found.values)


def verdict(found: Interval, lower: str, higher: str) -> str:
    """What a difference says: its direction where the interval leaves 0 out."""
    if not found.sure:
        return "cannot be told: the interval holds 0"
    return lower if found.mean < 0 else higher


def page(found: Mapping[str, Any], run: Path, seeds: Sequence[int], begun: Sequence[str], name: str) -> str:
    first = manifest(run, f"{BI}-seed-{seeds[0]}")
    count = len(seeds)
    models = "".join(
        f"| {model} | {show(bits['ko'])} | {show(bits['en'])} |\n" for model, bits in found["bits_per_byte"].items()
    )
    costs = "".join(
        f"| {model} | {each['bytes']:,.0f} | {each['tokens']:,} | {each['flops']:.3g} |\n"
        for model, each in found["cost"].items()
    )
    hours = ", ".join(f"{spent / 60:.0f}" for spent in found["seconds"].values())
    missing = f" Not whole, and so left out: seed {', '.join(begun)}." if begun else ""
    return f"""# The ablation: the paper's six models, small, and what the paper lacks

`bllossom run configs/ablation/recipe.yaml` at commit {first["git_commit"][:7]}, then
`python scripts/ablation_results.py RUN`; {machine()}, one thread, beside other work ({hours} minutes of wall time a
seed). {count} seeds, which vary the order of text and instructions; one base, vocabulary and token
folder for all.{missing} ± is half of a 95 % interval
over seeds (Student's t); a difference is taken within a seed.

A Llama of 0.8 M parameters beside its embeddings, with Llama 2's 32,000 pieces or the 39,478 of the merge with
KoBERT's. Every pretraining but `llama2-bi-flops` reads as many bytes; that one computes as much as `bllossom-bi`, with
a schedule of its own. Instructions are the demo's: there is no Korean LIMA here.

| model | bits per byte, ko | bits per byte, en |
|---|--:|--:|
{models}
| pretraining (first seed) | bytes | tokens | operations |
|---|--:|--:|--:|
{costs}
{answers(found, name)}
{limits(found, count, korean_tokens(run, seeds[0]))}"""


def answers(found: Mapping[str, Any], name: str) -> str:
    """The three questions, each with its table."""
    tuned = found["heldout_answers"]
    new, old = found["english_new"], found["english_old"]
    return f"""## (a) Does the larger vocabulary give lower Korean bits per byte?

| bllossom-bi minus | Korean bits per byte | by seed | |
|---|--:|---|---|
| llama2-bi, as many bytes | {show(found["same_bytes"], "+")} | {by_seed(found["same_bytes"])} | \
{verdict(found["same_bytes"], "yes", "no, higher")} |
| llama2-bi-flops, as many operations | {show(found["same_flops"], "+")} | {by_seed(found["same_flops"])} | \
{verdict(found["same_flops"], "yes", "no, higher")} |

![Korean bits per byte over bytes]({name}-bytes.svg)
![Korean bits per byte over operations]({name}-flops.svg)

Lines are means over seeds of the loss of each step's text, which no step had seen before, over {WINDOW} steps; bands
are the lowest and the highest seed.

## (b) Does bilingual pretraining forget less English than Korean alone?

| bilingual minus Korean alone | English bits per byte | by seed | |
|---|--:|---|---|
| with the new pieces | {show(new, "+")} | {by_seed(new)} | {verdict(new, "yes", "no, more")} |
| without | {show(old, "+")} | {by_seed(old)} | {verdict(old, "yes", "no, more")} |

The base stands at {show(found["bits_per_byte"]["base"]["en"])}, its expansion, before any step, at \
{show(found["bits_per_byte"]["expanded"]["en"])}.

## (c) Does loss on outputs alone give a lower loss on held-out answers?

| tuned on | nats a token of held-out answers |
|---|--:|
| outputs | {show(tuned[TUNED[0]])} |
| everything | {show(tuned[TUNED[1]])} |
| outputs minus everything | {show(found["outputs_only"], "+")} (by seed {by_seed(found["outputs_only"])}) |

{verdict(found["outputs_only"], "Yes", "No: it is higher").capitalize()}.
"""


def limits(found: Mapping[str, Any], count: int, korean: float) -> str:
    """What stands against the answers; `korean` is how many times the tokens Korean costs without new pieces."""
    return f"""## Beside the paper, and what cannot be told at this size

- The paper finds that the vocabulary helps Korean, and (a) is its counterpart in bits. Much of the gap is the old
  pieces': Korean costs {korean:.1f} times the tokens, a window of
  512 of them holds less text, and this base has to learn how bytes make syllables, which one of 2 trillion tokens
  knows.
- The paper's scores hardly tell bilingual from Korean pretraining apart, but they are all Korean. English text tells
  them apart at once (b). How much is forgotten here says little of 13B: the base saw 0.2 M tokens of English, and the
  peak learning rate, 2e-3, is that of a model that begins.
- What tuning does to text is large here: Korean bits per byte go from {show(found["bits_per_byte"][BI]["ko"])} to
  {show(found["bits_per_byte"]["bllossom-bi-kosft"]["ko"])} with koSFT. The paper looks at answers and tasks, not at
  text.
- The demo's instructions are short and made from templates, so held-out answers are like those of training: (c) says
  nothing of LIMA's long ones. `bllossom-bi-bisft` has other held-out answers, and `llama2-kosft` other pieces: their
  losses cannot be set beside these.
- Tasks are not scored: at this size all are at their floors (micro.md). Nothing here says which model answers better.
- Intervals are of {count} seeds on one base, one held-out text (13 Korean documents, 4 English) and one length of
  training. They hold for these, not for other texts.
"""


if __name__ == "__main__":
    main()
