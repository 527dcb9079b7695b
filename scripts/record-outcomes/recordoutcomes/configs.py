"""The configurations: which models answer, how each is prompted, with how many samples, at what notional price."""

from __future__ import annotations

from dataclasses import dataclass

# Notional prices in whole nano-dollars: a prompt token, an output token. Nobody charges them. They are in proportion
# to the parameters (135M, 270M), an output token four prompt tokens, at the level of small hosted models.
PRICES: dict[str, tuple[int, int]] = {
    "smollm2-135m": (10, 40),
    "gemma3-270m": (20, 80),
}
SHOTS = ("none", "general", "matched", "tools")


@dataclass(frozen=True)
class Member:
    """A model and how it is asked: one greedy answer (temperature 0), or several samples."""

    model: str
    shots: str
    samples: int = 1
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.model not in PRICES:
            raise ValueError(f"model {self.model!r} has no price: use one of {', '.join(PRICES)}")
        if self.shots not in SHOTS:
            raise ValueError(f"shots {self.shots!r} is unknown: use one of {', '.join(SHOTS)}")
        if self.samples < 1 or (self.samples == 1) != (self.temperature == 0):
            raise ValueError(f"samples {self.samples}: one is greedy (temperature 0), several need a temperature")


@dataclass(frozen=True)
class Config:
    """Members that answer one after the other; where there are several samples, they vote."""

    name: str
    members: tuple[Member, ...]


CONFIGS: dict[str, Config] = {
    name: Config(name, members)
    for name, members in {
        "smollm2-135m": (Member("smollm2-135m", "none"),),
        "smollm2-135m-fewshot": (Member("smollm2-135m", "general"),),
        "smollm2-135m-tools": (Member("smollm2-135m", "tools"),),
        "gemma3-270m-fewshot": (Member("gemma3-270m", "general"),),
        "gemma3-270m-matched": (Member("gemma3-270m", "matched"),),
        "gemma3-270m-tools": (Member("gemma3-270m", "tools"),),
        "gemma3-270m-tools-vote5": (Member("gemma3-270m", "tools", 5, 0.5),),
        "panel": (Member("smollm2-135m", "none"), Member("gemma3-270m", "tools", 5, 0.5)),
        "quartet": (
            Member("smollm2-135m", "none"),
            Member("smollm2-135m", "tools"),
            Member("gemma3-270m", "matched"),
            Member("gemma3-270m", "tools"),
        ),
        "council": (
            Member("smollm2-135m", "none"),
            Member("smollm2-135m", "tools"),
            Member("gemma3-270m", "matched"),
            Member("gemma3-270m", "tools", 5, 0.5),
        ),
    }.items()
}
