/** The page's clock, and when a sound of an audio graph reaches the ear by it. */

/** Seconds since 1970 by a clock that is never set back while the page is open. */
export function pageNow(): number {
  return (performance.timeOrigin + performance.now()) / 1000;
}

/** What an AudioContext tells of itself; both stamps of `getOutputTimestamp` are zero until sound flows. */
export interface Output {
  readonly currentTime: number;
  readonly baseLatency?: number;
  readonly outputLatency?: number;
  getOutputTimestamp?(): { contextTime?: number; performanceTime?: number };
}

/** Seconds by which the two ways to tell may differ before the stamp is taken for nonsense. */
const BELIEVABLE = 0.5;

/**
 * When a sound is heard.
 *
 * @param output The context that plays it.
 * @param at The sound's place, in the context's seconds.
 * @param now `performance.now()`, in milliseconds.
 * @returns Milliseconds on the clock of `now`.
 */
export function heardAt(output: Output, at: number, now: number): number {
  const latency = output.outputLatency || output.baseLatency || 0;
  const reckoned = now + (at - output.currentTime + latency) * 1000;
  const { contextTime = 0, performanceTime = 0 } = output.getOutputTimestamp?.() ?? {};
  if (contextTime <= 0 || performanceTime <= 0) return reckoned;
  // The stamp says which moment of the graph the loudspeaker is at; it knows the device best.
  const stamped = performanceTime + (at - contextTime) * 1000;
  return Math.abs(stamped - reckoned) < BELIEVABLE * 1000 ? stamped : reckoned;
}
