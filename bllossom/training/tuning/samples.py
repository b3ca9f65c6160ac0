"""samples.md: what a tuned model answers, for a person to look at."""

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from bllossom.instructions.formats.format import ChatFormat
from bllossom.instructions.messages import Conversation
from bllossom.model.outputs.generate import Decoding, Prompt, generate, stop_ids
from bllossom.model.window import longest_input
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.settings import TrainingConfig

SAMPLES = "samples.md"
ANSWER_TOKENS = 128
TEMPERATURE, TOP_P = 0.7, 0.9  # LIMA's for generation (arXiv 2305.11206, section 4.1)
ROWS = 8  # answers that are made at once


def write_samples(
    folder: Path,
    config: TrainingConfig,
    model: PreTrainedModel,
    chat: ChatFormat,
    conversations: Sequence[Conversation],
) -> None:
    """Answer the last question of each conversation, once greedily and once sampled with the config's seed.

    `model` is the one that was trained; where DeepSpeed has taken it apart, what was saved in `folder` is loaded.
    """
    if not conversations:
        return
    if config.deepspeed is not None:
        model = _load(folder, config)
    elif config.gradient_checkpointing:
        model.gradient_checkpointing_disable()
    model.set_attn_implementation(config.attention)  # what training had may know no cache
    model.eval()
    prompts = [chat.prompt(conversation.prompt()) for conversation in conversations]
    tokenizer = load_tokenizer(folder)
    greedy, sampled = (
        _answers(model, tokenizer, prompts, temperature, config.seed) for temperature in (0.0, TEMPERATURE)
    )
    lines = [
        "# Samples",
        "",
        f"Each question is answered greedily, and sampled at temperature {TEMPERATURE} and top_p {TOP_P} with seed "
        f"{config.seed}; at most {ANSWER_TOKENS} tokens.",
    ]
    for number, conversation in enumerate(conversations):
        lines += ["", f"## {number + 1}. {conversation.source}"]
        for message in conversation.prompt().messages:
            lines += ["", f"**{message.role}**", "", message.content]
        lines += ["", "**in the data**", "", conversation.messages[-1].content]
        for name, answers in (("greedy", greedy), ("sampled", sampled)):
            lines += ["", f"**{name}**", "", answers.get(number, "(the question fills the window)")]
    (folder / SAMPLES).write_text("\n".join(lines) + "\n", encoding="utf8")


def _answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    temperature: float,
    seed: int,
) -> dict[int, str]:
    """Answers by the number of their prompt; none where it fills the model's window."""
    fitting = [number for number, ids in enumerate(prompts) if len(ids) < longest_input(model.config)]
    decoding = Decoding(ANSWER_TOKENS, temperature, TOP_P, stop_ids(model, tokenizer))
    asked = [Prompt(prompts[number], seed) for number in fitting]
    found = generate(model, tokenizer, asked, decoding, batch_size=ROWS)
    return {fitting[answer.index]: answer.text.strip() for answer in found}


def _load(folder: Path, config: TrainingConfig) -> PreTrainedModel:
    if config.lora is not None:
        from peft import AutoPeftModelForCausalLM

        adapted: PreTrainedModel = AutoPeftModelForCausalLM.from_pretrained(folder)
        return adapted
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder)
    return loaded
