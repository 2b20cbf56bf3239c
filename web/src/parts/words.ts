/** What the phases of a call are called on the page. */

import type { Phase } from "../call/view.ts";

export const STATUS: Record<Phase, string> = {
  idle: "Ready when you are",
  connecting: "Connecting…",
  listening: "Listening",
  thinking: "Thinking…",
  speaking: "Speaking",
  reconnecting: "Reconnecting…",
  ended: "Call ended",
};

/** Said aloud by a screen reader: the way in and out, but not each turn, which the agent's voice tells already. */
export const ANNOUNCED: Record<Phase, string> = {
  idle: "",
  connecting: "Connecting",
  listening: "Connected. The agent can hear you.",
  thinking: "Connected. The agent can hear you.",
  speaking: "Connected. The agent can hear you.",
  reconnecting: "Connection lost, reconnecting",
  ended: "The call has ended",
};
