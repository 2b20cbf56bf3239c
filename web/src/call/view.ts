/** What the page shows of a call, as plain values. */

import { type LocalAudioTrack, ParticipantKind, type RemoteParticipant, type Room } from "livekit-client";

import type { Problem } from "./problems.ts";
import { gate, type Gate } from "./push_to_talk.ts";
import type { Segment } from "./transcript.ts";
import type { TurnRecord } from "./waterfall.ts";

export type Phase = "idle" | "connecting" | "listening" | "thinking" | "speaking" | "reconnecting" | "ended";

export interface Chosen {
  readonly id: string;
  readonly name: string;
}

export interface CallView {
  readonly phase: Phase;
  readonly problem: Problem | null;
  readonly segments: readonly Segment[];
  /** Latency records of the turns, oldest first. */
  readonly turns: readonly TurnRecord[];
  /** The room, for LiveKit's own components; null while there is none. */
  readonly room: Room | null;
  /** Whether an agent is in the room and takes messages. */
  readonly agentHere: boolean;
  /** The browser plays no sound until the user clicks once more. */
  readonly soundBlocked: boolean;
  /** The user's microphone while a call is under way. */
  readonly microphone: LocalAudioTrack | null;
  readonly gate: Gate;
  /** Whether what the microphone picks up is sent. */
  readonly open: boolean;
  /** Who answers. */
  readonly personality: Chosen | null;
}

export const BEFORE: CallView = {
  phase: "idle",
  problem: null,
  segments: [],
  turns: [],
  room: null,
  agentHere: false,
  soundBlocked: false,
  microphone: null,
  gate: gate(false),
  open: false,
  personality: null,
};

/** Whether a call is under way, so that the button ends it. */
export function underWay(phase: Phase): boolean {
  return phase !== "idle" && phase !== "ended";
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
