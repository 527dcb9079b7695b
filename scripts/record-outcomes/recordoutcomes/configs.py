"""The configurations: a model, how it is prompted, how many samples it may take, what it notionally costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """One way of answering. Prices are notional: whole nano-dollars a token."""

    name: str
    models: tuple[str, ...]  # keys of models.WEIGHTS; several vote together
    shots: str  # "none", "general" or "matched"
    samples: int  # per model; 1 is greedy
    temperature: float
    prices: tuple[tuple[int, int], ...]  # per model: nano-dollars a prompt token, an output token

    def __post_init__(self) -> None:
        if self.shots not in {"none", "general", "matched"}:
            raise ValueError(f"shots {self.shots!r} is unknown: use none, general or matched")
        if (self.samples == 1) != (self.temperature == 0):
            raise ValueError(f"{self.name}: one sample is greedy (temperature 0), several need a temperature")
        if len(self.prices) != len(self.models):
            raise ValueError(f"{self.name}: give one price a model")


_SMOL = (10, 40)
_GEMMA = (20, 80)

CONFIGS: dict[str, Config] = {
    c.name: c
    for c in (
        Config("smollm2-135m", ("smollm2-135m",), "none", 1, 0.0, (_SMOL,)),
        Config("smollm2-135m-fewshot", ("smollm2-135m",), "general", 1, 0.0, (_SMOL,)),
        Config("smollm2-135m-fewshot-vote5", ("smollm2-135m",), "general", 5, 0.7, (_SMOL,)),
        Config("gemma3-270m-fewshot", ("gemma3-270m",), "general", 1, 0.0, (_GEMMA,)),
        Config("gemma3-270m-matched", ("gemma3-270m",), "matched", 1, 0.0, (_GEMMA,)),
        Config("gemma3-270m-matched-vote5", ("gemma3-270m",), "matched", 5, 0.5, (_GEMMA,)),
        Config("mixed-matched-vote10", ("gemma3-270m", "smollm2-135m"), "matched", 5, 0.5, (_GEMMA, _SMOL)),
    )
}
