"""Golden probes of trained bundles: texts of our own over the domains, short, odd and longer than any window."""

from __future__ import annotations

PROBES: tuple[str, ...] = (
    "hi",
    "Which bread keeps longest without a freezer, and how should I store it?",
    "Our grade-school band needs a name that is funny but not childish. Give me five.",
    "Write a Go function that merges overlapping time ranges in place, and explain its worst case.",
    "panic: send on closed channel\n\ngoroutine 41 [running]:\nmain.(*hub).run(0xc00011e000)\n\nwhy does this only "
    "happen under load?",
    "A train leaves at 9:40 at 72 km/h, another at 10:05 at 96 km/h on the same track. When does the second catch up?",
    "Show that every bounded monotone sequence of real numbers converges, without using compactness.",
    "Why does salted water boil at a higher temperature, and by roughly how much for 10 g in a litre?",
    "My father takes warfarin and was given a course of metronidazole. What should his clinic check, and how soon?",
    "The tenant left six weeks early and the lease is silent on it. Can I keep the deposit for the lost rent?",
    "We paid 18,400 for a van in March and sold it for 11,250 after two years. How is the loss booked under "
    "straight-line depreciation over five years?",
    "Write a four-line toast for a colleague who retires after thirty years at the harbour office.",
    "\u00bfC\u00f3mo conjugo el verbo caber en pasado? Dame dos ejemplos.",
    "Literal [SEP] and [CLS] marks, a NUL\x00inside, caf\u00e9 na\u00efve \u2603 \u65e5\u672c\u8a9e \U0001f600 and "
    "a tab\there.",
    "Summarise the minutes below in three bullets.\n\n"
    + "The committee met at noon and went over the repairs of the north roof, item by item, until it rained. " * 30
    + "\n\nKeep names out of it.",
    "caf\u00e9 \u2603 \u65e5\u672c\u8a9e \u20ac " * 120 + "what is this list about?",
)
