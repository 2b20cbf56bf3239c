/** What the page shows of a call, as plain values. */

import { ParticipantKind, type RemoteParticipant, type Room } from "livekit-client";

import type { Problem } from "./problems.ts";
import type { Segment } from "./transcript.ts";

export type Phase = "idle" | "connecting" | "listening" | "thinking" | "speaking" | "reconnecting" | "ended";

export interface CallView {
  readonly phase: Phase;
  readonly problem: Problem | null;
  readonly segments: readonly Segment[];
  /** Seconds from the end of the user's last words to the reply's first sound. */
  readonly delay: number | null;
  /** The room, for LiveKit's own components; null while there is none. */
  readonly room: Room | null;
  /** Whether an agent is in the room and takes messages. */
  readonly agentHere: boolean;
  /** The browser plays no sound until the user clicks once more. */
  readonly soundBlocked: boolean;
}

export const BEFORE: CallView = {
  phase: "idle",
  problem: null,
  segments: [],
  delay: null,
  room: null,
  agentHere: false,
  soundBlocked: false,
};

/** Whether a call is under way, so that the button ends it. */
export function underWay(phase: Phase): boolean {
  return phase !== "idle" && phase !== "ended";
}

/** Whether both sides are there and talk. */
export function agentTalks(phase: Phase): boolean {
  return phase === "listening" || phase === "thinking" || phase === "speaking";
}

/** The agent of a room; the newest, where one that died is still listed. */
export function agentIn(room: Room): RemoteParticipant | null {
  const agents = [...room.remoteParticipants.values()].filter((one) => one.kind === ParticipantKind.AGENT);
  agents.sort((a, b) => (a.joinedAt?.getTime() ?? 0) - (b.joinedAt?.getTime() ?? 0));
  return agents.at(-1) ?? null;
}

/** What an agent is doing, from its attribute; null while it gets ready. */
export function doing(agent: RemoteParticipant): "listening" | "thinking" | "speaking" | null {
  const state = agent.attributes["lk.agent.state"];
  if (state === "thinking" || state === "speaking" || state === "listening") return state;
  return state === "idle" ? "listening" : null;
}

/** The delay of a turn's latency record (contract.md): until heard where that is known, else until sent. */
export function delayOf(record: unknown): number | null {
  if (typeof record !== "object" || record === null) return null;
  const { heard, sent } = record as { heard?: unknown; sent?: unknown };
  const delay = typeof heard === "number" ? heard : sent;
  return typeof delay === "number" && Number.isFinite(delay) ? delay : null;
}
