/**
 * Which sound was the beginning of which answer: the turns the agent reports, against the sounds the page has played.
 *
 * Times are seconds by the page's clock. Sounds without a turn (a greeting, the answer to a typed message, what
 * follows a pause within a reply) belong to none.
 */

/** A sound may seem to begin this much before it was sent: the clocks' error. */
const EARLY = 0.03;

/** Nor does the first sound of an answer come later than this after it was sent. */
const LATEST = 3;

/** Sounds remembered: the word that an answer was sent may come after its first sound. */
const KEPT = 12;

interface Sound {
  readonly from: number;
  readonly to: number | null;
}

export class HeardTurns {
  private sounds: readonly Sound[] = [];
  private waiting: { readonly turn: number; readonly sent: number } | null = null;
  private readonly onHeard: (turn: number, at: number) => void;

  constructor(onHeard: (turn: number, at: number) => void) {
    this.onHeard = onHeard;
  }

  /** The page began to play sound. */
  sound(at: number): void {
    this.sounds = [...this.sounds, { from: at, to: null }].slice(-KEPT);
    this.match();
  }

  /** It fell silent. */
  silence(at: number): void {
    const last = this.sounds.at(-1);
    if (last && last.to === null) this.sounds = [...this.sounds.slice(0, -1), { from: last.from, to: at }];
  }

  /** The agent handed over the first sound of a turn's answer. */
  sent(turn: number, at: number): void {
    this.waiting = { turn, sent: at };
    this.match();
  }

  /** Another agent, whose turns count anew; or a line that was away, and what it played with it. */
  forget(): void {
    this.sounds = [];
    this.waiting = null;
  }

  private match(): void {
    if (!this.waiting) return;
    const { turn, sent } = this.waiting;
    const earliest = sent - EARLY;
    // Sound that was on at that moment would hide the beginning: the turn isn't measured rather than guessed.
    if (this.sounds.some((one) => one.from < earliest && (one.to === null || one.to > sent))) {
      this.waiting = null;
      return;
    }
    const first = this.sounds.find((one) => one.from >= earliest);
    if (!first) return;
    this.waiting = null;
    if (first.from - sent <= LATEST) this.onHeard(turn, first.from);
  }
}
