/** How the page comes back after the line broke: quick at first, then patient, and at last it asks. */

import type { Problem } from "./problems.ts";

/** Milliseconds before the first attempts, and before each one after them. */
const FIRST = [300, 1000, 2000, 4000] as const;
const LATER = 5000;

/** Milliseconds after which it asks the user, who may have gone. */
export const PATIENCE = 240_000;

/** At most this long is a server's "try again in" believed while coming back. */
const LONGEST = 15_000;

/**
 * How long to wait before an attempt.
 *
 * @param attempt 0 for the first one.
 * @param spent Milliseconds since the line broke.
 * @param last What the attempt before met, if anything.
 * @param now Milliseconds since 1970.
 * @returns Milliseconds, or null to give up.
 */
export function pauseBefore(attempt: number, spent: number, last: Problem | null, now: number): number | null {
  if (spent > PATIENCE) return null;
  const pause = FIRST[attempt] ?? LATER;
  const asked = last?.retryAt ? last.retryAt - now : 0;
  return Math.max(pause, Math.min(asked, LONGEST));
}

/** Wait so long, or until the browser says that the network is back. */
export async function waitOrOnline(milliseconds: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    window.addEventListener("online", done);
  });
}
