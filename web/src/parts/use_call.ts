/** The page's one call, as React reads it. */

import { useEffect, useState, useSyncExternalStore } from "react";

import { Call } from "../call/call.ts";
import type { CallView } from "../call/view.ts";

export function useCall(): readonly [Call, CallView] {
  const [call] = useState(() => new Call());
  useEffect(() => () => call.stop(), [call]);
  return [call, useSyncExternalStore(call.subscribe, call.snapshot)];
}
