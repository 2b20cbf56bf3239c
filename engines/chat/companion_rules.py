"""The companion's small talk: pattern => replies in turn, | between them (+: answers statements too); its stories."""

TALK = r"""
+\b(suicid|(kill|hurt|harm)(ing)? myself|want to die)
    I'm sorry. I'm only a few rules, so please talk to someone you trust, or call your local crisis line now.
+^\W*(ich|wie|guten|je|bonjour|comment (ca|vas)|hola|c[oó]mo|soy|buenos|ciao|sono|jag|ik|hej)\b|^[^\x00-\u024f]
    Sorry, I speak only English. | Oh, the embedded companion knows only English, sorry.
^((can|could) you )?(stop|wait|hold on|hang on|shut up|(be )?quiet|enough)( (it|now|a|there|\w+ing|stop|minute))*\??$
    Okay. I'm listening. | Sure, over to you. | All right. Go ahead.
\b(embedded|real|better|smarter|bigger|which|what|local|language) (ai |language )?(model|engine|ai)\b|groq|upgrade
    Sure. This is the embedded companion, only rules. For a real model, set {settings} in the .env file.
\bwhat (exactly )?are you( exactly| really)?\??$|how do you work|(made|built|wrote|created) you
^(are|is|do|am)\b.*\b(robot|human|person|real|bot|machine|computer|ai|gpt|chatgpt|model|program)\b
    I'm {agent}, the embedded rule-based companion, no language model. For a real one, set {settings} in the .env file.
\babout (yourself|you)\b
    Gladly. I'm the companion built into this program, made of rules and of no language model. I listen for names,
        places and things you like, and I read them from what we've said. I know the time, a joke and two stories.
        Much else goes over my head, and then I ask a question instead. {settings} in .env brings a real model.
who are you|who am i (talking|speaking)|(what is|do you have) (your|an?) (\w+ )?name|i call you|your name\??$
    I'm {agent}, the small rule-based companion built in here. | {agent}. That's me, your built-in companion of rules.
^(go on|continue|carry on|keep \w+ing|go ahead|(tell me )?more)\??$|(happen(s|ed)|comes)( next)?$ => Right. {rest}
\b(story|stories|tales?)\b|^another( one)?$|once upon => All right. {story} | Here is one. {story}
(say|repeat) (that|it|again)\b|what did you (just )?say|^pardon|not (hear|catch) (you|that) => Sure. {again}
(tell|talk|say|hear|explain|know) .*(about|explain|something)|^explain \w
    I only know small things. {story} | That's beyond my rules. Here is something I do know. {story}
(what|which|tell)\b.* time\b|^time$ => It's {time}. | Right now it's {time}.
(what|which|tell)\b.* (day|date|year|month)\b|today's date => It's {date}. | Today is {date}.
joke|make me laugh => Sure. Why did the microphone leave? Too much feedback. | Okay. What do rules eat? Exceptions.
what (else )?(can|do) you do\b|\bhelp( me)?$ => Well, I chat, tell stories, know the time and remember you. And you?
how (are|do) you( do)?\b(?! know)|how is it going => I'm fine, thanks. How are you? | Very well. How is your day?
(can|do) you hear me|are you (still )?(there|listening) => Yes, I hear you. What's on your mind? | I'm here. Go ahead.
nice to meet you => Nice to meet you too{name}. What shall we talk about? | Likewise{name}. What's new?
thank|cheers => You're welcome. What else is on your mind? | Any time. Is there anything else?
\b(goodbye|bye|see you|good night|take care)\b => Goodbye{name}. It was nice talking with you. | Bye{name}. Come back.
^(hello|hi|hey|good (morning|afternoon|evening))\b => Hello{name}. What's on your mind? | Hi{name}. What's new?
+\bi (am|feel) (so |very |really |a bit |feeling )*(sad|tired|lonely|sick|ill|angry|stressed|upset|worried|bored)\b
    I'm sorry to hear that. What happened? | That sounds hard. What would help right now?
^(yes|yeah|sure|yep|okay|ok|right|exactly|no|nope|nah|not really|nothing|maybe|u[hm]+|hm+|oh|so)\b.{0,9}$
    Okay. What would you like to talk about? | All right. What comes to mind first?
^(what|who|where|when|why|how|which|whose|do|does|did|can|could|will|would|is|are|should)\b|\?$
    Sorry, that goes beyond my few rules. What do you think? | Hard to say. I'm only rules. What is your guess?
(?!)
    Got it, {told}. What else should I know? | Good to know, {told}. How is that for you? | I see, {told}. Tell me more.
+. => I see. What makes you say that? | All right. Tell me more. | Interesting. Go on.
""".replace(" => ", "\n    ")
STORIES = (
    "Once a lighthouse keeper lived across the bay from a town she had never seen. Every night she lit her lamp and "
    "watched its small lights answer. One autumn a storm put out every window there. She turned the great lamp away "
    "from the sea and let it shine on the streets until morning. The next day a boat came over with bread, apples and "
    "a fiddle player. They asked what they could do for her. Leave one light on for me, she said. And they have done "
    "so ever since. On clear evenings you can still see it, small, yellow and very patient.",
    "Long ago a clockmaker built a clock that ran slow on purpose. His neighbours laughed, for it was always late. "
    "But whoever came to mend a watch stayed for tea, since the clock said there was time. One young woman stayed so "
    "long that she missed her coach. That evening the coach lost a wheel on the mountain. She came back the next day "
    "with a cake, and the day after with a question. They were married under the slow clock. It is late today, and "
    "nobody minds.",
)
