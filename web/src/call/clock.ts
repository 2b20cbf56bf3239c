/**
 * The agent's clock as the page estimates it: round trips on `voice.clock` (contract.md), the quickest one believed.
 *
 * All times are seconds. A round trip's halves may differ, so its offset is good to half of it (Cristian's bound).
 */

export interface RoundTrip {
  /** When the question left and the answer came, by the page's clock. */
  readonly asked: number;
  readonly answered: number;
  /** When the agent got the question and when it answered, by its clock. */
  readonly got: number;
  readonly gave: number;
}

export interface ClockOffset {
  /** Add it to a time of the page to have the agent's. */
  readonly offset: number;
  /** How far it may be off. */
  readonly error: number;
}

/** Round trips of one look at the clock, and seconds between them. */
const TRIPS = 5;
const BETWEEN = 0.06;

/** How far two clocks part in a second, at worst: 50 ppm each. */
const DRIFT = 1e-4;

/** The offset a round trip shows; null where its times contradict one another. */
export function offsetOf(trip: RoundTrip): ClockOffset | null {
  const travelled = trip.answered - trip.asked - (trip.gave - trip.got);
  if (!Number.isFinite(travelled) || travelled < 0) return null;
  return { offset: (trip.got - trip.asked + (trip.gave - trip.answered)) / 2, error: travelled / 2 };
}

/** What the quickest of these round trips shows. */
export function quickest(trips: readonly RoundTrip[]): ClockOffset | null {
  const known = trips.map(offsetOf).filter((one) => one !== null);
  known.sort((a, b) => a.error - b.error);
  return known[0] ?? null;
}

/** The answer to `voice.clock`, or null where it isn't one. */
export function readAnswer(answer: string): { readonly got: number; readonly gave: number } | null {
  try {
    const { t1, t2 } = JSON.parse(answer) as { t1?: unknown; t2?: unknown };
    return typeof t1 === "number" && typeof t2 === "number" ? { got: t1, gave: t2 } : null;
  } catch {
    return null;
  }
}

interface Around {
  /** Asks the agent; `asked` is the page's time. */
  readonly ask: (asked: number) => Promise<string>;
  /** The page's clock. */
  readonly now: () => number;
  readonly sleep: (seconds: number) => Promise<void>;
}

/** Keeps the estimate; `look` renews it. */
export class AgentClock {
  private readonly around: Around;
  private known: (ClockOffset & { readonly at: number }) | null = null;

  constructor(around: Around) {
    this.around = around;
  }

  /** The estimate now, its error grown with its age; null where there is none yet. */
  offset(): ClockOffset | null {
    if (!this.known) return null;
    const age = Math.max(0, this.around.now() - this.known.at);
    return { offset: this.known.offset, error: this.known.error + age * DRIFT };
  }

  /** Make some round trips; a better estimate, or a newer one as good as the old one by now, is kept. */
  async look(): Promise<void> {
    const trips: RoundTrip[] = [];
    for (let trip = 0; trip < TRIPS; trip++) {
      if (trip > 0) await this.around.sleep(BETWEEN);
      const asked = this.around.now();
      try {
        const answer = readAnswer(await this.around.ask(asked));
        if (answer) trips.push({ asked, answered: this.around.now(), ...answer });
      } catch {
        break; // Nobody there, or too old to know the question: the next look may find somebody.
      }
    }
    const found = quickest(trips);
    const before = this.offset();
    // Clocks are set now and then: an estimate that contradicts the old one replaces it.
    const agrees = before && found && Math.abs(found.offset - before.offset) <= found.error + before.error;
    if (found && !(agrees && before.error < found.error)) this.known = { ...found, at: this.around.now() };
  }

  /** Forget it all: another agent, another clock. */
  forget(): void {
    this.known = null;
  }
}
