"""samples.md: what a tuned model answers, for a person to look at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from bllossom.instructions.formats.format import ChatFormat
from bllossom.instructions.messages import Conversation
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.settings import TrainingConfig

SAMPLES = "samples.md"
ANSWER_TOKENS = 128
TEMPERATURE, TOP_P = 0.7, 0.9  # LIMA's for generation (arXiv 2305.11206, section 4.1)


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
    tokenizer = load_tokenizer(folder)
    lines = [
        "# Samples",
        "",
        f"Each question is answered greedily, and sampled at temperature {TEMPERATURE} and top_p {TOP_P} with seed "
        f"{config.seed}; at most {ANSWER_TOKENS} tokens.",
    ]
    for number, conversation in enumerate(conversations, 1):
        ids = chat.prompt(conversation.prompt())
        room = min(ANSWER_TOKENS, int(getattr(model.config, "max_position_embeddings", 1 << 30)) - len(ids))
        lines += ["", f"## {number}. {conversation.source}"]
        for message in conversation.prompt().messages:
            lines += ["", f"**{message.role}**", "", message.content]
        lines += ["", "**in the data**", "", conversation.messages[-1].content]
        for name, sampled in (("greedy", False), ("sampled", True)):
            said = tokenizer.decode(_answer(model, ids, room, sampled, config.seed), skip_special_tokens=True)
            lines += ["", f"**{name}**", "", str(said).strip() if room > 0 else "(the question fills the window)"]
    (folder / SAMPLES).write_text("\n".join(lines) + "\n", encoding="utf8")


def _answer(model: PreTrainedModel, ids: Sequence[int], room: int, sampled: bool, seed: int) -> list[int]:
    if room < 1:
        return []
    torch.manual_seed(seed)
    prompt = torch.tensor([ids], device=model.device)
    drawn = {"temperature": TEMPERATURE, "top_p": TOP_P} if sampled else {"temperature": None, "top_p": None}
    ends = model.generation_config.eos_token_id
    with torch.inference_mode():
        generate: Any = model.generate
        output = generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=room,
            do_sample=sampled,
            top_k=None,
            pad_token_id=ends[0] if isinstance(ends, list) else ends,
            **drawn,
        )
    return output[0, len(ids) :].tolist()


def _load(folder: Path, config: TrainingConfig) -> PreTrainedModel:
    if config.lora is not None:
        from peft import AutoPeftModelForCausalLM

        adapted: PreTrainedModel = AutoPeftModelForCausalLM.from_pretrained(folder)
        return adapted
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder)
    return loaded
