/** The page's one call, as React reads it. */

import { useEffect, useState, useSyncExternalStore } from "react";

import { Call } from "../call/call.ts";
import type { CallView } from "../call/view.ts";
import * as stored from "../stored.ts";

const CHOSEN = { microphone: stored.microphone.get, speaker: stored.speaker.get };

export function useCall(): readonly [Call, CallView] {
  const [call] = useState(() => new Call(CHOSEN, stored.pushToTalk.get()));
  useEffect(() => () => call.stop(), [call]);
  return [call, useSyncExternalStore(call.subscribe, call.snapshot)];
}
