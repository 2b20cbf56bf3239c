"""What someone told the companion: first-person statements read from the messages, found again by their words."""

import re
from collections.abc import Sequence

from engines.types import Message

MESSAGES, CHARACTERS, CLAUSE = 300, 1500, 200
"""How much is read: the newest messages, of each its beginning, and of that pieces short enough for any pattern."""
_LISTS = """what where who when which how why do does did is are was were am be been i me my mine we our you your the a
an of to in on at for with about tell told say said know remember recall can could would please it that this and or not
any much many anything else so forget still yet again right myself have=a an not so very too the in on at it me you
sad happy glad fine good great okay ok well bad ill sick sorry sure busy hungry angry cold hot old young here there back
home ready done late early afraid alone free right wrong all just really still only also up off upset what how german
english american british french irish from=name/named/called/call like/love/enjoy/adore dislike/hate live/lived
job/living/work old/age/year buy/bought go/went color/colour favorite/favourite mother/mom father/dad=am_i/are_you
i_am/you're i_was/you_were i/you me/you my/your mine/yours our/your we/you you/me you_are/I'm your/my do_not/don't
ca_not/can't"""
_STOP, _STATE, _ALIKE, _TURN = (text.split() for text in _LISTS.split("="))
_SAME = {word: group.split("/")[0] for group in _ALIKE for word in group.split("/")}
_TURNS = dict(pair.replace("_", " ").split("/") for pair in _TURN)
_TURNED = re.compile(r"(?i)\b(" + "|".join(sorted(_TURNS, key=len, reverse=True)) + r")\b")
_EXPAND = {
    r"\bi'?m\b": "I am",
    r"\b(do|does|did|ca|is|are|was|have|would|could)n'?t\b": r"\1 not",
    r"\b(what|where|who|how|when|that|there|it|he|she|name)'s\b|\b(what|where|who)s\b": r"\1\2 is",
    r"\b(my [\w -]{1,40})'s (?=(?:called|named|an?|the|from|in|not)\b|\w+[.!?]?$)": r"\1 is ",
    r"(?<=\w)'(?:ve\b|d (?=got\b))": " have",
    r"(?<=\w)'re\b": " are",
}
# Each pattern begins with its name; its further lines are indented and joined on without a blank.
_PATTERNS = r"""
lead= ^(?:(?:um+|uh+|er+m?|hm+|well|oh|hey|so|and|but|okay|ok|yeah|yes|no|now|then|actually|please|ah)\b[\s,]*
    |(?:hello|hi|sorry|good (?:morning|afternoon|evening))\b[\s,]+(?=\w+ \w+)|wait,? (?=(?:wh|how|do|can|i|my))
    |(?:remember|note|do not forget)(?: that (?=my )|(?: that)? (?=i |.{1,60} (?:is|are|has|was) )))+(?=\w)
question= .*\?$|(?:what|where|who|when|why|how|which)\b(?! (?:i|my|we|you|he|she)\b)|(?:do|does|did|can?|could|will
    |would|is|are|am|was|were|have|should|tell|say|give|let|stop|remind|explain|talk|remember)\b
joined= (?<!know),?\s(?:(?:and|but|so|then) (?=(?:now )?(?:i|my|we|his|her|s?he|what|where|who|how|can|do|tell)\b)|(?=
    (?:call me|tell me|my name|i (?:am|live|like|love|have|work)|(?:what|who|where|how) (?:is|are|do|did|am)
    |(?:can|do) you|(?:his|her) name)\b))|, (?=(?:i|my|we|s?he|what|where|who|how)\b)
no fact= my name is not|i (?:(?:do|did|ca) not |just |only |would |really )*(?:know|think|guess|mean|said|told|asked|see
    |do$|wonder|hope|will|understand|agree|hear|am sorry|(?:want|need|like) (?:you|to (?:know|hear|ask)|an?other))\b
fact= (?:my|our|the) .*\w (?:is|are|was|has|said|\w+s|\w+ed) \w|(?:i|we) \w
name= (?:my (?:\w+ )?name is|(?:(?:you can|just|people|everyone|they) )?call me|i am called|i go by)[ ]
    (?!(?:not|later|back|when|if|at|on|an?|the|any|again)\b)(?:([\w'-]+(?: [\w'-]+){0,2})$|([\w'-]+))
soft name= (?:i am|this is) (?!(?:STATES|\w+(?:ing|ful|less|ous)|\w{3,}ed)\b)()([^\W\d_][\w'-]+)(?: (?:from|nice)\b.*)?$
thing= (?:i|we) have (?:an?|one|two|some)((?: (?!(?:named|called|and|who|that|in|at|with|from)\b)[\w-]+){1,3})
    |(?:my|our) ([\w -]{1,40}?)(?:'s? | (?:is|are|was|has|lives|likes|loves|works|plays|moved)\b)
extra= i am (?:(an?) |\d|\w+teen\b|(?:twen|thir|for|fif|six|seven|eigh|nine)ty\b|.*years old)
asked= told me yet. (?:what is your ([\w' -]{1,40}?)( called| named)?|where do you (live|work))\?$
proper= \b(named|called|name is|lives? in|from|moved to) (?!(?:an?|the|my|your)\b)((?:[a-z]+ ?){1,2}$|[a-z])
recall= (?!i |my |.*\bi mean\b)(?:(?:do|did|am|was|have) i\b|(?:is|are|was|does|did) my\b
    |(?:\w+ you )?tell me .{0,30}\b(?:my|i)\b|.*?\b(?:what|where|who|when|which|how (?:old|many))\b.{0,40}?\b
    (?:am|is|are|was|were|do|does|did|have)\b.{0,40}?\b(?:i|my|our|about me)\b
    |.*?\b(?:remember|recall|know|forgot|remind)\b.{0,40}\b(?:i|my|our|about me)\b)
many= .*\b(?:told|tell|said|say|know|remember)\b.*\babout\b|.*\b(?:do|did) (?:not )?i\b"""
_P = {
    name: re.compile(pattern.replace("STATES", "|".join(_STATE)), re.IGNORECASE)
    for name, pattern in re.findall(r"^([\w ]+)= (.+)$", re.sub(r"\n {4}", "", _PATTERNS), re.MULTILINE)
}


def turned(text: str) -> str:
    """The sentence from the other side: my to your, i am to you're."""
    return _TURNED.sub(lambda found: _TURNS[found[1].lower()], text)


def _words(text: str) -> frozenset[str]:
    text = re.sub(r"\bnot (?:i )?(?:really )?(?:like|love|enjoy)\b", "dislike", text.lower())
    found = [word for word in re.findall(r"[^\W_]{2,}", text) if word not in _STOP]
    plain = [re.sub(r"(?<=\w{2}[^s])s$", "", word) for word in found]
    return frozenset(_SAME.get(word) or re.sub(r"(?<=\w{2})(?:e|ed|ing)$", "", word) for word in plain)


def clauses(text: str, agent: str = "") -> list[str]:
    """What a message says piece by piece, contractions written out, no noise words or agent's name in front."""
    text = text[:CHARACTERS].replace("\u2019", "'")
    text = re.sub(rf"(?i)^((?:hey|hi|hello|okay|ok|so)?[ ,]*){re.escape(agent or '#')}[ ,]+(?=\w)", "", text)
    for short, full in _EXPAND.items():
        text = re.sub(short, full, text, flags=re.IGNORECASE)
    found = []
    for sentence in re.findall(r"(?:[^.!?;:\n]|[.:](?=\S))+\??", text):
        opening = _P["lead"].sub("", sentence.strip(" ,-"))
        parts = [opening] if _P["question"].match(opening[: CLAUSE - 1]) else _P["joined"].split(opening)
        found += [_P["lead"].sub("", part.strip(" ,-"))[:CLAUSE] for part in parts if re.search(r"\w", part)]
    return [re.sub(r"(?i)[\s,]+(?:please|too|by the way|you know)(?=\??$)", "", clause) for clause in found]


class Memory:
    """What a conversation's messages tell of the person (`facts`, newest last), the newest by clause in `latest`."""

    def __init__(self, messages: Sequence[Message], agent: str = "") -> None:
        self.name, self._thing, self._named_outright = "", "", False
        self.facts: dict[str, frozenset[str]] = {}
        self.latest: dict[str, str] = {}
        asked: re.Match[str] | None = None
        for message in messages[-MESSAGES:]:
            if message.role == "assistant":
                asked = _P["asked"].search(message.content[-CLAUSE:])
            elif message.role == "user":
                heard = clauses(message.content, agent)
                self.latest = {clause: fact for clause in heard if (fact := self._take(clause, asked))}

    def _take(self, clause: str, asked: re.Match[str] | None) -> str:
        """Keep what a clause tells of the person, if anything; `asked` is the question it may be a bare answer to."""
        if _P["question"].match(clause) or _P["no fact"].match(clause):
            return ""
        if asked and len(clause.split()) <= 3 and not re.match(r"(?i)(?:i|my|no|yes|nothing|none|go|in)\b", clause):
            clause = f"i {asked[3]} in {clause}" if asked[3] else f"my {asked[1]} is{asked[2] or ''} {clause}"
        if self._thing:
            clause = re.sub(r"(?i)^(?:his|her|its)(?= \w+ )", "he's", clause)
            clause = re.sub(r"(?i)^(?:s?he|it(?= is (?:call|nam)ed))\b(?=['s]* )", f"my {self._thing}", clause)
        outright = _P["name"].match(clause)
        if named := outright or (None if self._named_outright else _P["soft name"].match(clause)):
            self._named_outright, name = bool(outright), named[1] or named[2]
            self.name = name.title() if name.islower() else name
            clause, text = f"name {name}", f"your name is {self.name}"
        elif _P["fact"].match(clause):
            if thing := _P["thing"].match(clause):
                self._thing = (thing[1] or thing[2]).split()[-1]
            text = _P["proper"].sub(lambda found: f"{found[1]} {found[2].title()}", turned(clause))
        else:
            return ""
        # A new "your X is" takes the place of the old one.
        same = text.partition(" is ")[0] + " is "
        self.facts = {fact: words for fact, words in self.facts.items() if fact != text and not fact.startswith(same)}
        self.facts[text] = _words(clause) | ({"job" if a[1] else "old"} if (a := _P["extra"].match(clause)) else set())
        return text

    def recall(self, clause: str) -> list[str] | None:
        """What answers a question about the person, three sentences at most; None where it is no such question."""
        clause = re.sub(r"(?i)\bwho (?:am i|i am)\??$", "is my name", clause)
        wanted, personal = _words(clause), _P["recall"].match(clause)
        if personal and wanted <= {"name"}:
            return [f"your name is {self.name}"] * bool(self.name) if wanted else list(self.facts)[-3:]
        if personal or (re.match(r"(?i)wh|how|is |are ", clause) and not re.search(r"(?i)\byou", clause)):
            kind = re.match(r"(?i)(?:what|which) (\w+)(?: of \w+)? (?:do|did|am|is|are|was) (?:i|my)\b", clause)
            others = ("your",) * bool(re.search(r"(?i)\b(?:do|did|am|was|have) i\b(?! (?:tell|told|say|said))", clause))
            less = wanted - (_words(kind[1]) if kind else {"name", "old", "live", "job", "like"})
            for keys in [wanted, less] if personal else [wanted]:
                found = [fact for fact, words in self.facts.items() if keys <= words and not fact.startswith(others)]
                if found and keys and keys != {"favorite"}:
                    return found[-3:] if _P["many"].match(clause) else found[-1:]
        return [] if personal else None
