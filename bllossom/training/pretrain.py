"""pretrain: causal language modelling over a mixture of tokens, L_CLM of the paper (arXiv 2403.10882, section 3).

Old and new embeddings train together. The same stage makes a base from nothing (`model: {init: …}`).
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from bllossom.artifacts import Manifest, fingerprint
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.hub import pin
from bllossom.model.carried import carry
from bllossom.model.checkpoint import COMPANIONS, fetch
from bllossom.model.folder import check_rows, old_rows, recorded_rows
from bllossom.ranks.device import device_here
from bllossom.ranks.ranks import Ranks
from bllossom.tokenizer.files import holds_tokenizer
from bllossom.tokenizer.ids import tokenizer_fingerprint
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokens.mixture import Mixture, MixturePlan
from bllossom.tokens.shards import INDEX, read_index
from bllossom.training.block_rows import BlockRows, block_number, heldout_rows
from bllossom.training.continuing import BLOCKS_READ, BLOCKS_SKIPPED
from bllossom.training.engines.lora import adapter_parameters, add_adapters, check_base, load_adapter
from bllossom.training.engines.objective import CausalObjective
from bllossom.training.engines.optimization import Trainable, select_trainable, trained_weights
from bllossom.training.models import (
    InitModel,
    check_documents,
    check_kernels,
    check_window,
    edge_ids,
    init_model,
    keeps_documents_apart,
    load_model,
    resolve_here,
)
from bllossom.training.planning.disk import DiskNeed, check_disk, disk_need, strategy_of
from bllossom.training.pretrain_config import PretrainConfig, open_mixture
from bllossom.training.runs import checkpoints
from bllossom.training.runs.checkpoints import CHECKPOINTS, PHASES, RunInputs, State
from bllossom.training.runs.checksums import checksums_of
from bllossom.training.runs.launch import publish_trained, rank_count
from bllossom.training.runs.run import Run, Watch, figures_of
from bllossom.training.runs.steps import EvenSteps
from bllossom.training.runs.train_segment import parameter_count, train_segment
from bllossom.training.runs.validation import validation_loss_bits


def pretrain(config: PretrainConfig, *, force: bool = False) -> Manifest:
    """Train the model of `config` on its tokens and publish a plain Hugging Face folder; with lora a peft adapter's.

    Raises:
        BllossomError: model and tokens do not fit, the mixture has too little text, the loss is not finite.
        Stopped: stopped on request; the same command goes on.
    """
    config = resolve_here(config)
    inputs: dict[str, Path | str] = {"tokens": config.tokens}
    if isinstance(config.model, str):
        config = config.model_copy(update={"model": pin(config.model)})
        inputs["model"] = str(config.model)
    if config.continue_from is not None:
        inputs["continue_from"] = config.continue_from
        _check_earlier_run(config)
    config.arithmetic(rank_count(config), 0)
    check_kernels(config, device_here(config.gpus))
    check_window(config.model, config.block_size, "block_size")
    check_documents(config.model, config, document_mask=config.document_mask)
    _check_tokenizer(config)
    _check_old_rows(config)
    if isinstance(config.model, str):
        check_base(config.model, config.lora)
    return publish_trained(
        config, stage="pretrain", inputs=inputs, run_inputs=lambda _: _run_inputs(config), work=_train, force=force
    )


def _check_tokenizer(config: PretrainConfig) -> None:
    """Refuse a model whose own tokenizer gives other ids than the tokens were made with."""
    if isinstance(config.model, str) and holds_tokenizer(folder := fetch(config.model, COMPANIONS)):
        read_index(config.tokens, tokenizer_fingerprint(load_tokenizer(folder)))


def _check_old_rows(config: PretrainConfig) -> None:
    """Refuse a model whose old rows nobody knows, where a phase, the last one even, trains new rows alone."""
    if any(segment.trainable == "new_rows" for segment in config.segments()):
        old_rows(config.model)


def _check_earlier_run(config: PretrainConfig) -> None:
    earlier = config.earlier_run()
    if earlier is not None:
        earlier.check(
            config.model, config.tokens, config.mixture, config.block_size, config.seed, list(config.skip_blocks)
        )


def dry_run(config: PretrainConfig) -> list[str]:
    """The batch arithmetic, and, once the tokens are there, what the mixture would read."""
    config, steps = resolve_here(config), config.total_steps()
    if isinstance(config.model, InitModel) or Path(config.model).is_dir():
        _check_old_rows(config)
        check_window(config.model, config.block_size, "block_size")
        check_documents(config.model, config, document_mask=config.document_mask)
    check_kernels(config, device_here(config.gpus))
    lines = [*config.arithmetic(rank_count(config), steps), config.computing(device_here(config.gpus))]
    lines += _continuing(config)
    if isinstance(config.model, str) and Path(config.model).is_dir():
        check_base(config.model, config.lora)
        if config.tokens.is_dir():
            _check_tokenizer(config)
            _check_earlier_run(config)
    if config.tokens.is_dir():
        lines += _plan(config, open_mixture(config), steps).lines()
    return lines


def _plan(config: PretrainConfig, mixture: Mixture, steps: int) -> MixturePlan:
    blocks = config.blocks_before() + steps * config.blocks_per_step()
    return mixture.plan(blocks + len(config.blocks_left_out()))


def _continuing(config: PretrainConfig) -> list[str]:
    """What is said of the run that this one continues."""
    earlier = config.earlier_run()
    if earlier is None:
        return []
    peak = max(segment.learning_rate.peak for segment in config.segments())
    return [
        f"continues {earlier.folder} behind its {earlier.blocks:,} blocks, which the table below counts too; its "
        f"learning rate ended at {earlier.last_learning_rate:.3g}, this run's rises to {peak:.3g}, with new moments"
    ]


def _run_inputs(config: PretrainConfig) -> RunInputs:
    """What a checkpoint must have been made from (see checkpoints.RunInputs)."""
    index, mixture = read_index(config.tokens), config.mixture.model_dump()
    mixture["max_epochs"] = max(mixture["max_epochs"], config.epochs or 0)
    fixed = {
        "tokens": fingerprint(config.tokens / INDEX)[:16],
        "tokenizer": index.tokenizer[:16],
        "block_size": str(config.block_size),
        "global_batch": str(config.global_batch),
        "precision": config.precision,
        "mixture": f"{json.dumps(mixture, sort_keys=True)} seed {config.seed}",
    }
    if earlier := config.earlier_run():
        fixed["continues"] = f"{earlier.blocks} blocks of {earlier.fingerprint[:16]}"
    skipped, before = config.blocks_left_out(), config.blocks_before()

    def after(step: int) -> Mapping[str, str]:
        read = before + step * config.blocks_per_step()
        last = block_number(read - 1, skipped) if read else -1
        return fixed | {"skipped": ", ".join(str(block) for block in skipped if block < last) or "no block"}

    return after


def _train(config: PretrainConfig, folder: Path, ranks: Ranks) -> dict[str, Any]:
    """Train phase after phase on this rank; rank 0 leaves the published files in `folder`."""
    mixture = open_mixture(config)
    segments = config.segments(mixture)
    steps = segments[0].total
    if not steps:
        raise BllossomError("not one whole step of text: lower global_batch, or add text")
    plan = _plan(config, mixture, steps)
    if ranks.first:
        computing = config.computing(device_here(config.gpus))
        for line in [*config.arithmetic(ranks.world, steps), computing, *_continuing(config), *plan.lines()]:
            say(line)
    rows = BlockRows(mixture, config.document_mask, config.blocks_left_out(), read=config.blocks_before())
    run = Run(config, folder, ranks, _run_inputs(config))
    languages = [] if config.evaluate_every is False else config.mixture.weights.keys()
    apart = not keeps_documents_apart(config.model)
    heldout = heldout_rows(config.tokens, languages, config.block_size, config.evaluate_tokens, apart=apart)
    if ranks.first and heldout:
        tokens = ", ".join(f"{language} {sum(row.supervised() for row in h.rows):,}" for language, h in heldout.items())
        every = f"every {config.evaluate_every:,} steps and " if config.evaluate_every else ""
        say(f"held-out tokens scored {every}at the end: {tokens}")
    score = (
        partial(validation_loss_bits, heldout=heldout, ranks=ranks, micro_batch=config.micro_batch) if heldout else None
    )
    watch = Watch(score, evaluate_every=config.evaluate_every or None, row_tokens=config.block_size)
    start, source = State(), config.model
    sizes: dict[str, int] = {}
    for segment in segments:
        last = segment is segments[-1]
        kept = folder / PHASES / str(segment.phase)
        if kept.is_dir():
            _check_phase(kept, ranks)
            start, source = checkpoints.read_state(kept), str(kept / "model")
            continue
        model = _model(config, source, read_index(config.tokens).pieces)
        sizes = _sizes(model)
        check_disk(folder, _disk_need(config, model, [segment.trainable for segment in segments]))
        select_trainable(model, segment.trainable, old_rows(config.model) if segment.trainable == "new_rows" else 0)
        unfinished = kept.with_name(f"{kept.name}.unfinished")
        start = train_segment(
            run,
            model,
            CausalObjective(rows.groups),
            EvenSteps(rows, segment.rows_per_step, config.micro_batch),
            segment,
            watch,
            save_to=folder if last else unfinished / "model",
            save_dtype=config.save_dtype if last else "fp32",
            start=start,
        )
        if not last:
            checksums = checksums_of(unfinished, ranks)
            if ranks.first:
                checkpoints.write_state(unfinished, start, checksums)
                checkpoints.finish(unfinished, kept)
        ranks.wait()
        source = str(kept / "model")
    if ranks.first:
        base = fetch(config.model, COMPANIONS) if isinstance(config.model, str) else None
        # The ids are the same, but only the model's own files know of its templates and special tokens.
        carry(base, [*filter(None, [base]), config.tokens / "tokenizer"], folder)
    rows_before = recorded_rows(config.model) if isinstance(config.model, str) else {}
    read: dict[str, Any] = {
        "ranks": ranks.world,
        BLOCKS_READ: config.blocks_before() + steps * config.blocks_per_step(),
    }
    if config.continue_from:
        read[BLOCKS_SKIPPED] = config.blocks_left_out()
    done = {"tokens": steps * config.global_batch, "mixture": _shares(plan), "ranks": ranks.world}
    return sizes | rows_before | read | done | figures_of(start)


def _check_phase(kept: Path, ranks: Ranks) -> None:
    """Refuse what a phase left where it is not what was written.

    Raises:
        BllossomError: says what to remove.
    """
    if why := ranks.from_first(checkpoints.damage(kept) if ranks.first else None):
        raise BllossomError(
            f"{kept} is damaged ({why}); remove {kept.parent} and {kept.parent.parent / CHECKPOINTS} to train the "
            "phases again"
        )


def _model(config: PretrainConfig, source: str | InitModel, pieces: int) -> PreTrainedModel:
    if isinstance(source, InitModel):
        bos, eos = edge_ids(config.tokens)
        return init_model(source.init, pieces, config.seed, bos=bos, eos=eos)
    # With lora, what a phase leaves is an adapter on the same base.
    model = load_model(source if config.lora is None else str(config.model), config)
    check_rows(str(config.model), model, pieces)
    if config.lora is not None:
        add_adapters(model, config.lora, config.seed)
        if source != config.model:
            load_adapter(model, Path(source))
    return model


def _disk_need(config: PretrainConfig, model: PreTrainedModel, phases: Sequence[Trainable]) -> DiskNeed:
    """Of all phases: what the first one writes is there until the last one ends."""
    most = max(parameter_count(trained_weights(model, trainable)) for trainable in phases)
    parameters = parameter_count(model.parameters())
    return disk_need(config, strategy_of(config), trained=most, parameters=parameters, phases=len(phases))


def _sizes(model: PreTrainedModel) -> dict[str, int]:
    adapters = adapter_parameters(model)
    sizes = {"parameters": parameter_count(model.parameters()) - adapters}
    return sizes | ({"adapter_parameters": adapters} if adapters else {})


def _shares(plan: MixturePlan) -> dict[str, Any]:
    """Target beside observed, by language and by source, in the mixture's unit."""
    kept = ("target", "observed", "tokens", "bytes", "epochs")
    rows = {f"{row.language}/{row.source}".rstrip("/"): row for row in [*plan.languages, *plan.sources]}
    return {name: {key: getattr(row, key) for key in kept} for name, row in rows.items()}
