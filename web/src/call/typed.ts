/** Typed messages on their way: what an agent took along when it died is sent to the one that takes its place. */

interface Typed {
  readonly text: string;
  /** The agent it was sent to. */
  agent: string;
}

export class TypedMessages {
  private waiting: Typed[] = [];

  /** A message goes to an agent, which repeats in the transcript whatever it takes. */
  sent(text: string, agent: string): void {
    this.waiting.push({ text: text.trim(), agent });
  }

  /** The user's words as the agent told them: a message that it repeats has arrived. */
  repeated(text: string): void {
    const at = this.waiting.findIndex((one) => one.text === text.trim());
    if (at >= 0) this.waiting.splice(at, 1);
  }

  /** Whoever typed it was told that it wasn't sent, or the call is over. */
  forget(text?: string): void {
    this.waiting = text === undefined ? [] : this.waiting.filter((one) => one.text !== text.trim());
  }

  /** What has to be sent to this agent, since the one it was sent to never repeated it; from now on it is sent. */
  owedTo(agent: string): readonly string[] {
    const owed = this.waiting.filter((one) => one.agent !== agent);
    for (const one of owed) one.agent = agent;
    return owed.map((one) => one.text);
  }
}
