/** What the phases of a call are called on the page. */

import type { CallView } from "../call/view.ts";

export function status({ phase, problem, segments }: CallView, agentName: string): string {
  switch (phase) {
    case "idle":
      return `Talk with ${agentName}`;
    case "connecting":
      return "Connecting…";
    case "listening":
      return "Listening";
    case "thinking":
      return "Thinking…";
    case "speaking":
      return "Speaking";
    case "reconnecting":
      return "Reconnecting…";
    case "ended":
      return problem && !segments.length ? "That didn’t work" : "Call ended";
  }
}

/** Said aloud by a screen reader: the way in and out, but not each turn, which the agent's voice tells already. */
export function announced(view: CallView, agentName: string): string {
  switch (view.phase) {
    case "idle":
      return "";
    case "connecting":
      return "Connecting";
    case "reconnecting":
      return "Connection lost, reconnecting";
    case "ended":
      return "The call has ended";
    default: {
      if (view.gate.pushToTalk) return `${agentName} is here. Hold Space or the talk button while you speak.`;
      return view.gate.muted ? `${agentName} can't hear you: muted.` : `${agentName} can hear you.`;
    }
  }
}
