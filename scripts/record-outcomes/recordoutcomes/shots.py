"""Worked examples for the few-shot configurations. None of them is a prompt of the set."""

from __future__ import annotations

Shot = tuple[str, str]

BY_DOMAIN: dict[str, list[Shot]] = {
    "general": [
        ("what's the capital of Denmark", "Copenhagen"),
        ("opposite of 'tall'? one word", "short"),
        ("Which of these is not a drink: tea, juice, ladder, milk?", "ladder"),
        ("What do you wear on your feet?\nA) gloves\nB) hat\nC) belt\nD) socks", "D"),
        ("how many days are in three weeks?", "21"),
        ("Who wrote Don Quixote?", "Cervantes"),
        ("Repeat this exactly and nothing else: silver spoon", "silver spoon"),
        ("Eva is faster than Jon. Jon is faster than Max. Who is the slowest?", "Max"),
    ],
    "math": [
        ("what is 14 + 8", "22"),
        ("What is 72 - 26?", "46"),
        ("9 x 6", "54"),
        ("20 percent of 150?", "30"),
        ("next one: 4, 7, 10, 13", "16"),
        ("I had 9 apples, ate 3 and got 6 more. How many apples now?", "12"),
        ("solve 5x + 3 = 38", "7"),
        ("Which number is even?\nA) 7\nB) 12\nC) 15\nD) 21", "B"),
    ],
    "coding": [
        ("what does print(4 * 3) output in python", "12"),
        ("y = [7, 1, 9]\nprint(y[2])\nwhat gets printed?", "9"),
        ("what command changes the directory in bash?", "cd"),
        ("python line that assigns 3 to the variable count", "count = 3"),
        ("SQL: all columns of the table orders", "SELECT * FROM orders"),
        ("Which one is a loop?\nA) for\nB) int\nC) import\nD) None", "A"),
        ("what does XML stand for", "Extensible Markup Language"),
        ("big O of looking at every item of a list once", "O(n)"),
    ],
    "science": [
        ("chemical symbol for gold", "Au"),
        ("Which planet has the biggest rings?", "Saturn"),
        ("unit of electric current", "ampere"),
        ("atomic number of helium", "2"),
        ("A 5 kg object accelerates at 2 m/s². What force in newtons?", "10"),
        ("Which of these is a gas at room temperature?\nA) iron\nB) salt\nC) helium\nD) wax", "C"),
        ("what do you call an animal that eats only meat", "carnivore"),
        ("formula of carbon monoxide?", "CO"),
    ],
    "medical": [
        ("which organ cleans the blood and makes urine", "kidney"),
        ("A doctor for the eyes is called what?", "ophthalmologist"),
        ("Inflammation of the skin is called?", "dermatitis"),
        ("Take 1 tablet twice a day for 7 days. How many tablets in total?", "14"),
        ("Which one is a vaccine target?\nA) measles\nB) fracture\nC) sunburn\nD) myopia", "A"),
        ("what does ICU stand for", "intensive care unit"),
        ("medical word for a heart attack", "myocardial infarction"),
        ("Dose is 5 mg per kg. Weight is 20 kg. How many mg?", "100"),
    ],
    "legal": [
        ("the written law passed by a parliament is called a ...", "statute"),
        ("crime of breaking into a house to steal", "burglary"),
        ("A false spoken promise to get money is fraud or charity?", "fraud"),
        ("Who keeps order in a courtroom?\nA) the baker\nB) the bailiff\nC) the nurse\nD) the tenant", "B"),
        ("latin for 'guilty act'", "actus reus"),
        ("Rent is 600 a month. How much for 4 months?", "2400"),
        ("what does EULA stand for", "end-user license agreement"),
        ("how many senators does each US state have", "2"),
    ],
    "finance": [
        ("Tea costs 2 dollars. How much for 7 teas?", "14"),
        ("price 50, 10% off. what do i pay?", "45"),
        ("What does ROI stand for?", "return on investment"),
        ("Revenue 900, costs 650. Profit?", "250"),
        ("Which of these is a liability?\nA) cash\nB) a house\nC) gold\nD) a bank loan", "D"),
        ("share bought at 30, sold at 36. Percent gain?", "20"),
        ("a person who checks a company's books is called", "auditor"),
        ("currency used in India", "rupee"),
    ],
    "writing": [
        ("past tense of 'run'", "ran"),
        ("Write a sentence about a cat. Use the word 'window'.", "The cat sleeps by the window."),
        ("Describe the sun in exactly four words.", "Bright, warm, golden, distant."),
        ("List 2 birds, one per line, no numbers.", "robin\nowl"),
        ("Fix: 'They was late.'", "They were late."),
        ("turn into a question: She is here.", "Is she here?"),
        ("slogan for a tea shop, at most 5 words", "Good tea, good day."),
        ("Acrostic for SKY: three lines, whose first letters spell SKY.", "Soft clouds\nKites above\nYellow sun"),
    ],
}


def general() -> list[Shot]:
    """Two examples of every domain, mixed."""
    return [BY_DOMAIN[d][i] for i in range(2) for d in BY_DOMAIN]


def matched(domain: str) -> list[Shot]:
    """One example of every other domain, then the eight of the prompt's own."""
    return [shots[2] for d, shots in BY_DOMAIN.items() if d != domain] + BY_DOMAIN[domain]


# The same examples where the calculator answers, and some more, by the example's question.
_CALLS: dict[str, str] = {
    "how many days are in three weeks?": "calc(3 * 7)",
    "what is 14 + 8": "calc(14 + 8)",
    "What is 72 - 26?": "calc(72 - 26)",
    "9 x 6": "calc(9 * 6)",
    "20 percent of 150?": "calc(20 / 100 * 150)",
    "next one: 4, 7, 10, 13": "calc(13 + 3)",
    "I had 9 apples, ate 3 and got 6 more. How many apples now?": "calc(9 - 3 + 6)",
    "solve 5x + 3 = 38": "calc((38 - 3) / 5)",
    "what does print(4 * 3) output in python": "calc(4 * 3)",
    "A 5 kg object accelerates at 2 m/s². What force in newtons?": "calc(5 * 2)",
    "Take 1 tablet twice a day for 7 days. How many tablets in total?": "calc(1 * 2 * 7)",
    "Dose is 5 mg per kg. Weight is 20 kg. How many mg?": "calc(5 * 20)",
    "Rent is 600 a month. How much for 4 months?": "calc(600 * 4)",
    "Tea costs 2 dollars. How much for 7 teas?": "calc(2 * 7)",
    "price 50, 10% off. what do i pay?": "calc(50 - 50 * 10 / 100)",
    "Revenue 900, costs 650. Profit?": "calc(900 - 650)",
    "share bought at 30, sold at 36. Percent gain?": "calc((36 - 30) / 30 * 100)",
}
_MORE: dict[str, list[Shot]] = {
    "math": [
        ("half of 90?", "calc(90 / 2)"),
        ("4 boxes hold 12 pens each and 5 pens are taken. How many are left?", "calc(4 * 12 - 5)"),
        ("6 squared", "calc(6 ** 2)"),
        ("mean of 3, 6 and 12", "calc((3 + 6 + 12) / 3)"),
        ("A bus goes 150 km in 2 hours. Speed in km/h?", "calc(150 / 2)"),
    ],
    "finance": [
        ("4 friends share a bill of 92. Each pays?", "calc(92 / 4)"),
        ("500 at 4% simple interest for 3 years: interest?", "calc(500 * 4 / 100 * 3)"),
    ],
    "science": [("charge moved by 3 amps in 20 s, in coulombs", "calc(3 * 20)")],
    "medical": [("A syrup has 20 mg per ml. How many ml for 80 mg?", "calc(80 / 20)")],
    "legal": [("Two heirs share 50,000 equally. How much each?", "calc(50000 / 2)")],
    "coding": [("In Python, what is 19 // 4?", "calc(19 // 4)")],
}


def tools(domain: str) -> list[Shot]:
    """The matched examples, calling the calculator wherever there is something to calculate."""
    examples = matched(domain) + _MORE.get(domain, [])
    if domain != "math":
        examples = BY_DOMAIN["math"][:1] + examples
    return [(question, _CALLS.get(question, answer)) for question, answer in examples]
