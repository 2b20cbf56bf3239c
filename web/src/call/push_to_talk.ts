/**
 * When the microphone is open: always but while muted, or, with push-to-talk, only while something is held.
 *
 * Times are milliseconds on any one clock.
 */

/** How long the microphone stays open after letting go: the last word's end mustn't be cut off. */
export const TAIL = 250;

/** What can be held. `latch` is the button pressed by something that can't hold (a screen reader, a switch). */
export type Hold = "key" | "pointer" | "latch";

export interface Gate {
  readonly pushToTalk: boolean;
  readonly muted: boolean;
  readonly held: readonly Hold[];
  /** Open until then although nothing is held any more. */
  readonly until: number;
}

export function gate(pushToTalk: boolean): Gate {
  return { pushToTalk, muted: false, held: [], until: 0 };
}

/** Choose between the two ways; what was held or muted is let go. */
export function withPushToTalk(now: Gate, pushToTalk: boolean): Gate {
  return now.pushToTalk === pushToTalk ? now : gate(pushToTalk);
}

export function withMuted(now: Gate, muted: boolean): Gate {
  return now.pushToTalk || now.muted === muted ? now : { ...now, muted };
}

/** Something is pressed. Holding twice (a key that repeats) is holding once. */
export function pressed(now: Gate, what: Hold): Gate {
  return !now.pushToTalk || now.held.includes(what) ? now : { ...now, held: [...now.held, what] };
}

export function released(now: Gate, what: Hold, at: number): Gate {
  if (!now.held.includes(what)) return now;
  const held = now.held.filter((one) => one !== what);
  return { ...now, held, until: held.length ? now.until : at + TAIL };
}

/** Everything is let go at once, as when the window loses the keyboard and a key's end would never be told. */
export function letGo(now: Gate, at: number): Gate {
  return now.held.reduce((after, what) => released(after, what, at), now);
}

/** Whether what the microphone picks up is sent. */
export function isOpen(now: Gate, at: number): boolean {
  return now.pushToTalk ? now.held.length > 0 || at < now.until : !now.muted;
}
