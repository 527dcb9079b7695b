"""The words of the tiny bundle: its vocabulary, and which domain each list speaks for."""

from __future__ import annotations

WORDS: dict[str, str] = {
    "general": """
        a an the and or but if of to in on at by for from with without about into over under between after before
        is are was were be been being am do does did done have has had can could may might must shall should will would
        i you he she it we they me him her us them my your his its our their this that these those here there now then
        what which who whom whose when where why how not no yes please thanks hello hi hey good morning evening
        day week month year today tomorrow yesterday time hour minute city country world people person friend family
        history war king queen river mountain capital language music song film food dinner recipe travel trip train
        weather rain sun sport team game school teacher child children old new big small long short many few most
        best better worse easy simple hard name place thing way part number list example answer question
        make take give get go come see know think want need use find tell ask help let try keep start stop
        garden kitchen coffee bread water house room door window street car bike dog cat bird tree flower
    """,
    "coding": """
        code function class method variable loop array string integer python java script go rust sql query database
        table index compile compiler bug debug error exception stack trace thread lock race deadlock cache memory
        pointer null type interface module package import test unit regex parse json yaml http server client api
        request response endpoint git commit branch merge docker container kernel socket buffer async await promise
        callback recursion binary search sort hash map queue graph algorithm refactor deploy
    """,
    "math": """
        math equation integral derivative matrix vector eigenvalue polynomial prime theorem proof prove lemma solve
        compute calculate sum product quotient remainder fraction decimal percent ratio angle triangle circle radius
        square root cube geometry algebra calculus probability random dice coin combination permutation modulo
        divisor multiple sequence series limit converge infinity function bounded continuous real complex
    """,
    "science": """
        science physics chemistry biology atom molecule electron proton energy force mass velocity acceleration
        gravity quantum photon wave light heat temperature pressure gas liquid solid acid base reaction catalyst
        cell gene protein enzyme species evolution planet star galaxy orbit earthquake climate carbon oxygen
        experiment hypothesis measure laboratory mechanics entropy
    """,
    "medical": """
        medical patient doctor nurse hospital disease symptom fever cough pain headache blood pressure heart lung
        liver kidney brain infection virus bacteria antibiotic dose drug tablet vaccine surgery diagnosis treatment
        therapy allergy asthma diabetes insulin cancer pregnancy rash swelling clinic prescription
    """,
    "legal": """
        legal law court judge lawyer contract clause tenant landlord lease rent deposit liability negligence tort
        plaintiff defendant statute regulation copyright patent trademark license privacy consent evidence appeal
        crime criminal theft will testament divorce custody employment dismissal notice damages jurisdiction
    """,
    "finance": """
        finance money bank loan interest mortgage tax income invoice price cost profit revenue budget stock bond
        share dividend market inflation currency exchange dollar euro account accounting balance sheet audit
        insurance pension salary payroll credit debit investor portfolio depreciation
    """,
    "writing": """
        write rewrite poem story essay letter email blog title paragraph sentence tone style draft edit shorten
        summary summarize translate headline speech toast haiku sonnet novel chapter character dialogue metaphor
        formal friendly polite slogan caption cover
    """,
}

HARD = """
    prove proof theorem derive eigenvalue integral deadlock race jurisdiction liability negligence entropy quantum
    diagnosis optimal constraint distributed asymptotic rigorous depreciation lemma converge concurrency contraindicated
"""

CONTEXT = """
    optimal constraint distributed asymptotic rigorous concurrency contraindicated derive explain compare describe
    difference because however therefore while each every both either neither first second third last next again
"""

# Golden probes and examples: texts of our own, over the domains, short and
# longer than the windows, and some that only a careful tokenizer gets right.
PROBES: tuple[str, ...] = (
    "hi",
    "What is the capital of the country where the river starts?",
    "Write a function in Go that reverses a list without a second buffer, and a unit test for it.",
    "Prove that the sum of two odd numbers is even.",
    "Why does gas get warm when pressure rises?",
    "My child has a fever and a rash after the antibiotic. Should we go to the hospital tonight?",
    "My landlord keeps the deposit although the lease ended in May. Which notice must I send?",
    "I earn 3,400 dollar a month: what does a loan of 20,000 at 5% interest cost me over 6 years?",
    "Write a short, friendly poem about the old garden door.",
    "Literal [SEP] and [CLS] marks, a NUL\x00inside, and caf\u00e9 na\u00efve \u2603 \u65e5\u672c \U0001f600 text.",
    "UPPER lower MiXeD   spaces\tand\nlines\r\n```go\nfunc f(x int) int { return x * x }\n```",
    "zzzzqqqq xylophonically unbelievablewordsgluedtogether",
    " ".join(["Derive the limit of the sequence, then prove that it is bounded."] * 8),
    "Read this log and find the deadlock. "
    + " ".join(f"thread {i} waits for lock {i + 1} held by thread {i * 7 % 13};" for i in range(30))
    + " Which lock comes first?",
    "caf\u00e9 \u2603 \u65e5\u672c\u8a9e " * 40 + "what is the price of bread?",
)
