"""How likely a causal language model finds given tokens: what task scores and bits per byte are both made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bllossom.errors import BllossomError
from bllossom.evaluation.scoring.backend import NOT_NUMBERS, Advance, Scored, numbers
from bllossom.evaluation.scoring.dealing import work_shared
from bllossom.evaluation.scoring.prefix_trees import Tree, grow
from bllossom.model.outputs.generate import Decoding, Prompt, generate, stop_ids
from bllossom.model.outputs.logits import logit_rule
from bllossom.model.window import longest_input
from bllossom.ranks.ranks import Ranks, alone

# Logits held at once. 256 × 39,478 pieces in fp32 are 40 MB; chunks that outgrow the cache take half as long again.
HEAD_CHUNK_TOKENS = 256
LONGEST_TREE = 4096  # nodes of a tree that more than one sequence shares: its mask is the square of them


@dataclass(frozen=True)
class Scorer:
    """A model, the padded inputs of one pass of it, whether sequences may share their beginnings, and the ranks.

    Every rank holds the whole model, is given the same sequences, and gets all their scores.
    """

    model: PreTrainedModel
    batch_tokens: int
    shares: bool
    ranks: Ranks

    @classmethod
    def of(cls, model: PreTrainedModel, batch_tokens: int, ranks: Ranks | None = None) -> "Scorer":
        """A scorer for `model`, tried out on a few tokens. Without `ranks` this process does all the work.

        Raises:
            BllossomError: the model does more to its logits than model/outputs/logits.py knows, so that scores would
                be wrong.
        """
        _check_head(model)
        return cls(model, batch_tokens, _can_share(model), ranks or alone("cpu"))

    @property
    def window(self) -> int:
        """The longest input of the model, in tokens."""
        return longest_input(self.model.config)

    @property
    def dtype(self) -> str:
        """The type of the weights, in which is computed."""
        return str(self.model.dtype).removeprefix("torch.")

    def score(self, sequences: Sequence[tuple[Sequence[int], int]], advance: Advance | None = None) -> list[Scored]:
        """Score each (ids, first): the log-probabilities (natural, summed) of ids[first:], each given all ids before.

        What sequences have in common at their beginnings is computed once (prefix_trees.py). Rows are batched by
        length and padded on the right: a causal model's tokens do not see what follows them. Logits are made once for
        each place that predicts a scored token, `HEAD_CHUNK_TOKENS` at a time. Batches are dealt to the ranks by their
        tokens, and are the same for any number of them.

        Args:
            sequences: `first` is at least 1; ids but the last fit the model's window.
            advance: told, batch by batch, which share of this rank's work has been done.
        """
        for ids, first in sequences:
            if first < 1 or len(ids) - 1 > self.window:
                raise ValueError(f"cannot score ids[{first}:] of {len(ids)} with a window of {self.window}")
        trees, places = self._rows([tuple(ids[:-1]) for ids, _ in sequences])
        members: list[list[int]] = [[] for _ in trees]
        for index, (tree, _) in enumerate(places):
            members[tree].append(index)
        batches = self._batches(trees)

        def score_one(number: int) -> list[tuple[int, Scored]]:
            batch = batches[number]
            spans = [
                (row, places[index][1][sequences[index][1] - 1 :], sequences[index][0][sequences[index][1] :])
                for row, tree in enumerate(batch)
                for index in members[tree]
            ]
            found = self._score_batch([trees[tree] for tree in batch], spans)
            return list(zip((index for tree in batch for index in members[tree]), found, strict=True))

        costs = [len(batch) * max(len(trees[tree].tokens) for tree in batch) for batch in batches]
        with torch.inference_mode():
            found = work_shared(self.ranks, costs, score_one, advance)
        results = dict(pair for batch in found for pair in batch)
        return numbers([results[index] for index in range(len(sequences))])

    def answer(
        self, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], decoding: Decoding, advance: Advance
    ) -> list[str]:
        """The text that goes on from each prompt: batches of like lengths, dealt to the ranks by their tokens."""
        decoding = replace(decoding, stop_ids=decoding.stop_ids | stop_ids(self.model, tokenizer))
        order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index].ids), index))
        rows = max(1, self.batch_tokens // (len(prompts[order[0]].ids) + decoding.max_tokens))
        batches = [order[start : start + rows] for start in range(0, len(order), rows)]

        def answer_one(number: int) -> list[tuple[int, str]]:
            batch = batches[number]
            asked = [prompts[index] for index in batch]
            made = generate(self.model, tokenizer, asked, decoding, batch_size=len(batch))
            return [(batch[answer.index], answer.text) for answer in made]

        costs = [sum(len(prompts[index].ids) + decoding.max_tokens for index in batch) for batch in batches]
        found = work_shared(self.ranks, costs, answer_one, advance)
        texts = dict(pair for batch in found for pair in batch)
        return [texts[index] for index in range(len(prompts))]

    def _rows(self, inputs: list[tuple[int, ...]]) -> tuple[list[Tree], list[tuple[int, list[int]]]]:
        if self.shares:
            longest = min(max(self.batch_tokens, self.window), LONGEST_TREE)
            return grow(inputs, longest, int(self.model.config.hidden_size))
        unique = {ids: number for number, ids in enumerate(dict.fromkeys(inputs))}
        trees = [Tree() for _ in unique]
        paths = [tree.add(ids) for tree, ids in zip(trees, unique, strict=True)]
        return trees, [(unique[ids], paths[unique[ids]]) for ids in inputs]

    def _batches(self, trees: Sequence[Tree]) -> list[list[int]]:
        """Rows by length, those that need no mask apart; longest first: what does not fit the memory fails at once."""
        branches = [tree.branches for tree in trees]
        order = sorted(range(len(trees)), key=lambda row: (branches[row], -len(trees[row].tokens), row))
        batches: list[list[int]] = []
        longest = 0
        for row in order:
            fits = batches and (len(batches[-1]) + 1) * longest <= self.batch_tokens
            if not fits or branches[row] != branches[batches[-1][0]]:
                batches.append([])
                longest = len(trees[row].tokens)
            batches[-1].append(row)
        return batches

    def _score_batch(
        self, trees: Sequence[Tree], spans: Sequence[tuple[int, Sequence[int], Sequence[int]]]
    ) -> list[Scored]:
        """Score spans (row of the batch, nodes, ids): the output at nodes[i] predicts ids[i]."""
        hidden = self._hidden(trees)
        lengths = [len(ids) for _, _, ids in spans]
        wanted = [(row, node) for row, nodes, _ in spans for node in nodes]
        sources = {place: number for number, place in enumerate(dict.fromkeys(wanted))}
        rows, nodes = torch.tensor(list(sources), device=hidden.device).T
        targets = torch.tensor([token for _, _, ids in spans for token in ids])
        nats, greedy = self._score_tokens(
            hidden[rows, nodes], torch.tensor([sources[place] for place in wanted]), targets
        )
        return [
            Scored(float(n.sum()), bool(g.all()))
            for n, g in zip(nats.split(lengths), greedy.split(lengths), strict=True)
        ]

    def _hidden(self, trees: Sequence[Tree]) -> torch.Tensor:
        size = max(len(tree.tokens) for tree in trees)
        ids = torch.zeros(len(trees), size, dtype=torch.long)
        for row, tree in enumerate(trees):
            ids[row, : len(tree.tokens)] = torch.tensor(tree.tokens)
        device = self.model.device
        if not any(tree.branches for tree in trees):
            return _last_hidden(self.model, ids.to(device))
        positions = torch.zeros_like(ids)
        for row, tree in enumerate(trees):
            positions[row, : len(tree.tokens)] = torch.tensor(tree.positions)
        seen = torch.from_numpy(np.stack([tree.mask(size) for tree in trees])[:, None]).to(device)
        mask = torch.zeros(seen.shape, dtype=self.model.dtype, device=device).masked_fill_(~seen, -torch.inf)
        return _last_hidden(self.model, ids.to(device), attention_mask=mask, position_ids=positions.to(device))

    def _score_tokens(
        self, hidden: torch.Tensor, sources: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities float64 [tokens] and likeliest? bool [tokens] of `targets`.

        hidden [places, width]; sources int64 [tokens], the place that predicts each target; targets int64 [tokens].
        """
        head, rule = self.model.get_output_embeddings(), logit_rule(self.model.config)
        nats = torch.zeros(len(targets), dtype=torch.float64)
        greedy = torch.zeros(len(targets), dtype=torch.bool)
        order = torch.argsort(sources, stable=True)
        bounds = torch.searchsorted(sources[order], torch.arange(0, len(hidden) + HEAD_CHUNK_TOKENS, HEAD_CHUNK_TOKENS))
        for number, states in enumerate(hidden.split(HEAD_CHUNK_TOKENS)):
            here = order[bounds[number] : bounds[number + 1]]
            logits = rule(head(states).float())
            rows = (sources[here] - number * HEAD_CHUNK_TOKENS).to(logits.device)
            chosen = logits[rows, targets[here].to(logits.device)]
            nats[here] = (chosen - logits.logsumexp(-1)[rows]).double().cpu()
            greedy[here] = (chosen == logits.amax(-1)[rows]).cpu()
        return nats, greedy


def _last_hidden(model: PreTrainedModel, ids: torch.Tensor, **places: torch.Tensor) -> torch.Tensor:
    hidden: torch.Tensor = model.base_model(input_ids=ids, use_cache=False, **places).last_hidden_state
    return hidden


def _check_head(model: PreTrainedModel) -> None:
    ids = torch.tensor([[0, 1, 2]], device=model.device)
    with torch.inference_mode():
        expected = model(input_ids=ids).logits.float()
        found = logit_rule(model.config)(model.get_output_embeddings()(_last_hidden(model, ids)).float())
    if not expected.isfinite().all():
        raise BllossomError(NOT_NUMBERS)
    if not torch.allclose(expected, found, rtol=1e-3, atol=1e-3):
        kind = type(model).__name__
        raise BllossomError(f"{kind} does more to its logits than is known here; use a Llama-like model")


def _can_share(model: PreTrainedModel) -> bool:
    """True where a tree's mask is all that says who sees whom: not with sliding windows, not with distances (ALiBi)."""
    kinds = getattr(model.config, "layer_types", None)
    if any(kind != "full_attention" for kind in kinds) if kinds else getattr(model.config, "sliding_window", None):
        return False
    if "local" in (getattr(model.config, "attention_layers", None) or ()):  # GPT-Neo's windows count places of a row
        return False
    tree = Tree()
    paths = [tree.add(ids) for ids in ((0, 1, 2, 3, 4), (0, 1, 3, 4))]
    scorer = Scorer(model, 16, shares=True, ranks=alone("cpu"))
    tolerance = 1e-4 if model.dtype == torch.float32 else 5e-2
    with torch.inference_mode():
        try:
            together = scorer._hidden([tree])[0].float()
        except (TypeError, ValueError, RuntimeError):  # it takes no such mask, or no positions
            return False
        for path in paths:
            ids = torch.tensor([[tree.tokens[node] for node in path]], device=model.device)
            if not torch.allclose(together[path], _last_hidden(model, ids)[0].float(), rtol=tolerance, atol=tolerance):
                return False
    return True
