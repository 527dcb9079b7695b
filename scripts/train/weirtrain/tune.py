"""Fine-tunes the lower layers of MiniLM-L6 for the base lane, in PyTorch on the CPU.

Every row teaches what is known of it: both qualities, domain and answer length. Half of them are seen under an edit
drawn anew each epoch, so that manners carry no score; outcome sets have intercepts of their own, so that neither a
set's level nor its format does. Only the encoder is kept: the lane's heads are fitted afterwards on the outputs of
its int8 graph. The run is seeded, and goes on from its last checkpoint when it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from weirtrain import augment, minilm
from weirtrain.bundle import DOMAINS
from weirtrain.config import TuneConfig
from weirtrain.data import Row
from weirtrain.shape import shape_vector
from weirtrain.text import Encoder, clean

Array = npt.NDArray[np.float64]
SHAPE_SCALE = 0.3
HEAD_RATE = 20.0


@dataclass(frozen=True)
class Task:
    """Rows with their targets; NaN and -1 where nothing is known. `group` numbers
    the outcome sets and is -1 for rows that say where zero is. `weight` is how
    often a row is drawn an epoch, at most once."""

    rows: Sequence[Row]
    gain: Array
    efficient: Array
    domain: npt.NDArray[np.int64]
    length: Array
    group: npt.NDArray[np.int64]
    weight: Array
    draw: Array


class Layer(nn.Module):
    """One BERT layer, under MiniLM's names of its parts."""

    def __init__(self, weights: dict[str, minilm.Floats], prefix: str) -> None:
        super().__init__()

        def linear(name: str) -> nn.Linear:
            w = torch.from_numpy(weights[f"{prefix}{name}.weight"].copy())
            made = nn.Linear(w.shape[1], w.shape[0])
            made.weight.data.copy_(w)
            made.bias.data.copy_(torch.from_numpy(weights[f"{prefix}{name}.bias"].copy()))
            return made

        def norm(name: str) -> nn.LayerNorm:
            w = torch.from_numpy(weights[f"{prefix}{name}.weight"].copy())
            made = nn.LayerNorm(len(w), eps=1e-12)
            made.weight.data.copy_(w)
            made.bias.data.copy_(torch.from_numpy(weights[f"{prefix}{name}.bias"].copy()))
            return made

        self.parts = nn.ModuleDict()
        for name in minilm.LINEAR:
            self.parts[name.replace(".", "/")] = linear(name)
        for name in minilm.NORMS:
            self.parts[name.replace(".", "/")] = norm(name)

    def _part(self, name: str, x: Tensor) -> Tensor:
        out: Tensor = self.parts[name.replace(".", "/")](x)
        return out

    def forward(self, x: Tensor, mask: Tensor, drop: float) -> Tensor:
        """Hidden states after this layer."""
        batch, n, width = x.shape

        def heads(name: str) -> Tensor:
            return self._part(name, x).view(batch, n, minilm.HEADS, width // minilm.HEADS).transpose(1, 2)

        query, key, value = (heads(f"attention.self.{k}") for k in ("query", "key", "value"))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).reshape(x.shape)
        mixed = F.dropout(self._part("attention.output.dense", mixed), drop, self.training)
        x = self._part("attention.output.LayerNorm", x + mixed)
        inner = self._part("output.dense", F.gelu(self._part("intermediate.dense", x)))
        return self._part("output.LayerNorm", x + F.dropout(inner, drop, self.training))

    def weights(self, prefix: str) -> dict[str, minilm.Floats]:
        """The layer's tensors under MiniLM's names."""
        state = self.state_dict()
        names = {k: prefix + k.removeprefix("parts.").replace("/", ".") for k in state}
        return {names[k]: v.detach().to(torch.float32).numpy().copy() for k, v in state.items()}


class Student(nn.Module):
    """The lower layers, and heads that only this stage uses."""

    def __init__(self, weights: dict[str, minilm.Floats], layers: int, groups: int, shape: int) -> None:
        super().__init__()
        words = torch.from_numpy(weights["embeddings.word_embeddings.weight"].copy())
        places = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self.words = nn.Embedding(*words.shape)
        self.words.weight.data.copy_(words)
        self.words.requires_grad_(False)
        self.places = nn.Parameter(torch.from_numpy(places.copy()), requires_grad=False)
        self.norm = nn.LayerNorm(words.shape[1], eps=1e-12)
        self.norm.weight.data.copy_(torch.from_numpy(weights["embeddings.LayerNorm.weight"].copy()))
        self.norm.bias.data.copy_(torch.from_numpy(weights["embeddings.LayerNorm.bias"].copy()))
        self.norm.requires_grad_(False)
        self.layers = nn.ModuleList(Layer(weights, f"encoder.layer.{i}.") for i in range(layers))
        self.quality = nn.Linear(words.shape[1] + shape, 2)
        self.domain = nn.Linear(words.shape[1] + shape, len(DOMAINS))
        self.length = nn.Linear(words.shape[1] + shape, 1)
        self.level = nn.Parameter(torch.zeros(groups + 1, 2))

    def forward(self, ids: Tensor, mask: Tensor, shape: Tensor, drop: float) -> tuple[Tensor, Tensor, Tensor]:
        """(efficient and gain, domain logits, log length) of a padded batch."""
        x = self.norm(self.words(ids) + self.places[: ids.shape[1]])
        allowed = mask[:, None, None, :].bool()
        for layer in self.layers:
            x = layer(x, allowed, drop)
        pooled = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        at = torch.cat([F.dropout(pooled, drop, self.training), SHAPE_SCALE * shape], 1).float()
        return self.quality(at), self.domain(at), self.length(at)[:, 0]

    def encoder(self, weights: dict[str, minilm.Floats]) -> dict[str, minilm.Floats]:
        """MiniLM's weights with the tuned layers in place of the first ones."""
        kept = {k: v for k, v in weights.items() if k.startswith("embeddings.")}
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            kept |= layer.weights(f"encoder.layer.{i}.")
        return kept


STEPS = (8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256)


def _width(length: int) -> int:
    """The padded width of a text: few different shapes, because each new one costs the matrix library a set-up."""
    return next((w for w in STEPS if w >= length), length)


def _batches(lengths: Sequence[int], tokens: int, rng: random.Random) -> list[list[int]]:
    """Batches of one padded width with at most `tokens` ids, in random order."""
    waiting: dict[int, list[int]] = {}
    batches: list[list[int]] = []
    order = list(range(len(lengths)))
    rng.shuffle(order)
    for i in order:
        width = _width(lengths[i])
        part = waiting.setdefault(width, [])
        part.append(i)
        if len(part) == max(1, tokens // width):
            batches.append(waiting.pop(width))
    batches += [waiting[w] for w in sorted(waiting)]
    rng.shuffle(batches)
    return batches


@dataclass(frozen=True)
class _Seen:
    """One epoch's texts as the lane sees them."""

    at: list[int]
    ids: list[list[int]]
    shapes: npt.NDArray[np.float32]


def _epoch(task: Task, encoder: Encoder, config: TuneConfig, epoch: int, scale: tuple[Array, Array]) -> _Seen:
    """Draws this epoch's rows and edits, by the seed and the epoch alone; shapes are standardised by `scale`."""
    rng = random.Random(f"{config.seed}/{epoch}")
    at: list[int] = []
    ids: list[list[int]] = []
    shapes = []
    for i, row in enumerate(task.rows):
        if rng.random() >= task.draw[i]:
            continue
        text = augment.one_edit(row, rng) if rng.random() < config.edited else row.text
        cleaned = clean(text)
        tokens = encoder.encode(cleaned).ids
        if len(tokens) > config.most_tokens:
            tail = config.most_tokens // 4
            tokens = tokens[: config.most_tokens - tail] + tokens[-tail:]
        at.append(i)
        ids.append(tokens)
        shapes.append(shape_vector(cleaned))
    return _Seen(at, ids, ((np.stack(shapes) - scale[0]) / scale[1]).astype(np.float32))


def _loss(
    out: tuple[Tensor, Tensor, Tensor], student: Student, task: Task, at: list[int], config: TuneConfig
) -> Tensor:
    quality, domain, length = out
    want = torch.from_numpy(np.stack([task.efficient[at], task.gain[at]], 1)).float()
    weight = torch.from_numpy(task.weight[at]).float()
    level = student.level[torch.from_numpy(task.group[at] + 1)] * torch.from_numpy(task.group[at] >= 0)[:, None]
    known = ~torch.isnan(want[:, 0])
    miss = torch.where(known[:, None], quality + level - torch.nan_to_num(want), 0.0).square()
    scale = torch.tensor([1.0, config.gain_weight])
    total = ((miss * scale).sum(1) * weight).sum() / weight.sum()
    label = torch.from_numpy(task.domain[at])
    told = label >= 0
    if told.any():
        by_row = F.cross_entropy(domain[told], label[told], reduction="none", label_smoothing=0.05)
        total = total + config.domain_weight * (by_row * weight[told]).sum() / weight.sum()
    tokens = torch.from_numpy(task.length[at]).float()
    heard = ~torch.isnan(tokens)
    if heard.any():
        by_row = F.smooth_l1_loss(length[heard], tokens[heard], reduction="none")
        total = total + config.length_weight * (by_row * weight[heard]).sum() / weight.sum()
    return total


def _key(task: Task, config: TuneConfig) -> str:
    """A digest of all that decides the result, so that no checkpoint of other data is taken up."""
    settings = {k: v for k, v in asdict(config).items() if k != "blend"}
    seen = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for row in task.rows:
        seen.update(row.text.encode("utf-8"))
    for values in (task.gain, task.efficient, task.length, task.weight, task.draw, task.domain, task.group):
        seen.update(np.ascontiguousarray(values).tobytes())
    return seen.hexdigest()[:16]


def _start(student: Student, task: Task) -> None:
    """Heads begin at the means, so that the first steps do not shake the encoder."""
    anchor = task.group < 0 if (task.group < 0).any() else task.group >= 0
    with torch.no_grad():
        for head in (student.quality, student.domain, student.length):
            head.weight.mul_(0.1)
        student.quality.bias.copy_(torch.tensor([np.nanmean(task.efficient[anchor]), np.nanmean(task.gain[anchor])]))
        if not np.isnan(task.length).all():
            student.length.bias.fill_(float(np.nanmean(task.length)))


class _Run:
    """A tuning under way: student, optimizer, and the checkpoint that another process can go on from."""

    def __init__(self, student: Student, config: TuneConfig, kept: Path) -> None:
        self.student, self.config, self.kept = student, config, kept
        self.slow = [p for layer in student.layers for p in layer.parameters()]
        heads = (student.quality, student.domain, student.length)
        self.fast = [*(p for head in heads for p in head.parameters()), student.level]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": self.slow, "lr": config.rate, "weight_decay": 0.01},
                {"params": self.fast, "lr": config.rate * HEAD_RATE},
            ]
        )
        self.epoch, self.batch = 0, 0
        self.saved = time.monotonic()
        if kept.exists():
            state = torch.load(kept, weights_only=True)
            student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.batch = state["epoch"], state["batch"]

    def save(self, epoch: int, batch: int) -> None:
        """Writes a checkpoint: the next batch to learn is `batch` of `epoch`."""
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        part = self.kept.with_suffix(".part")
        state = {"student": self.student.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**state, "epoch": epoch, "batch": batch}, part)
        part.rename(self.kept)
        self.saved = time.monotonic()

    def learn(self, task: Task, seen: _Seen, batch: list[int], done: float) -> float:
        """One step on one batch, `done` being the share of the whole run behind it; returns the loss."""
        for group, top in zip(self.optimizer.param_groups, (1.0, HEAD_RATE), strict=True):
            group["lr"] = self.config.rate * top * min(1.0, done * 20) * (1.0 - done)
        width = _width(max(len(seen.ids[j]) for j in batch))
        ids = torch.tensor([seen.ids[j] + [0] * (width - len(seen.ids[j])) for j in batch])
        mask = torch.tensor([[1.0] * len(seen.ids[j]) + [0.0] * (width - len(seen.ids[j])) for j in batch])
        shape = torch.from_numpy(seen.shapes[batch])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bfloat16):
            quality, domain, length = self.student(ids, mask, shape, self.config.dropout)
        out = (quality.float(), domain.float(), length.float())
        loss = _loss(out, self.student, task, [seen.at[j] for j in batch], self.config)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.slow + self.fast, 1.0)
        self.optimizer.step()
        return float(loss.detach())


def tune(
    task: Task,
    encoder: Encoder,
    config: TuneConfig,
    weights: dict[str, minilm.Floats],
    kept: Path,
    *,
    on_batch: Callable[[], None] | None = None,
) -> dict[str, minilm.Floats]:
    """Returns the embeddings of `weights` and the tuned layers.

    A checkpoint is written every few minutes to `kept`, under a name that its data
    and settings decide. `on_batch`, where given, is called after each step.
    """
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    shapes = np.stack([shape_vector(clean(r.text)) for r in task.rows])
    scale = (shapes.mean(0), shapes.std(0) + 1e-6)
    student = Student(weights, config.layers, int(task.group.max()) + 1, shapes.shape[1])
    _start(student, task)
    run = _Run(student, config, kept / f"tune-{_key(task, config)}.pt")
    student.train()
    first, skip = run.epoch, run.batch
    for epoch in range(first, config.epochs):
        seen = _epoch(task, encoder, config, epoch, scale)
        order = random.Random(f"{config.seed}/order/{epoch}")
        batches = _batches([len(i) for i in seen.ids], config.batch_tokens, order)
        title = f"base lane, epoch {epoch + 1}/{config.epochs}"
        bar = tqdm(enumerate(batches), total=len(batches), desc=title, mininterval=5.0)
        for number, batch in bar:
            if epoch == first and number < skip:
                continue
            torch.manual_seed(config.seed * 1_000_003 + epoch * 10_007 + number)
            loss = run.learn(task, seen, batch, (epoch + number / len(batches)) / config.epochs)
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            if time.monotonic() - run.saved >= config.checkpoint_seconds:
                run.save(epoch, number + 1)
            if on_batch is not None:
                on_batch()
        run.save(epoch + 1, 0)
    return blend(weights, student.encoder(weights), config.blend)


def blend(first: dict[str, minilm.Floats], tuned: dict[str, minilm.Floats], share: float) -> dict[str, minilm.Floats]:
    """Weights on the way from the first to the tuned ones (Wortsman et al. 2021, arXiv:2109.01903): a half keeps what
    tuning taught and most of what the encoder was steady under."""
    return {
        k: (share * v + (1 - share) * first[k]).astype(np.float32) if "layer." in k else v for k, v in tuned.items()
    }
