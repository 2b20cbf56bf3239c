/** When LiveKit tries to mend a broken line by itself, before the page joins anew; its usual pauses grow to 7 s. */

import type { ReconnectContext } from "livekit-client";

const PAUSES = [0, 300, 1000] as const;
const LATER = 1000;

/** Milliseconds for which it tries. */
export const MEND_FOR = 60_000;

export const MENDING = {
  nextRetryDelayInMs: ({ retryCount, elapsedMs }: ReconnectContext) =>
    elapsedMs > MEND_FOR ? null : (PAUSES[retryCount] ?? LATER),
};
