/** A call: joins the conversation's room, follows what happens there, and comes back when the line breaks. */

import {
  ConnectionState,
  DisconnectReason,
  type LocalAudioTrack,
  ParticipantKind,
  type ReconnectContext,
  type RemoteParticipant,
  Room,
  RoomEvent,
  Track,
} from "livekit-client";

import { pass, type Wish } from "../api.ts";
import { openMicrophone } from "./microphone.ts";
import { problem, type Problem, Trouble } from "./problems.ts";
import { readRoomText } from "./room_text.ts";
import { withAllFinal, withWords } from "./transcript.ts";
import { agentIn, BEFORE, type CallView, delayOf, doing, underWay } from "./view.ts";

/** Milliseconds after which a missing agent is told about; it may still come. */
const AGENT_PATIENCE = 10_000;

/** Milliseconds before each attempt to come back after the line broke. */
const COME_BACK = [300, 1000, 2000, 4000, 8000, 8000] as const;

/** Milliseconds before each attempt of LiveKit's own to mend the line; its usual pauses grow to 7 s. */
const MEND = [0, 300, 1000] as const;
const MEND_LATER = 1000;
const MEND_FOR = 60_000;

const MENDING = {
  nextRetryDelayInMs: ({ retryCount, elapsedMs }: ReconnectContext) =>
    elapsedMs > MEND_FOR ? null : (MEND[retryCount] ?? MEND_LATER),
};

/** Milliseconds that the line may be silent before it is told: most gaps are over by then. */
const BLINK = 1000;

/** Ends of a call that nobody should undo on their own. */
const FOR_GOOD: Partial<Record<DisconnectReason, Problem>> = {
  [DisconnectReason.DUPLICATE_IDENTITY]: problem("continued-elsewhere"),
  [DisconnectReason.PARTICIPANT_REMOVED]: problem("removed"),
};

export class Call {
  private view: CallView = BEFORE;
  private readonly listeners = new Set<() => void>();
  /** Counts starts and stops: what belongs to an earlier one has no say any more. */
  private turn = 0;
  private waiting: ReturnType<typeof setTimeout> | undefined;
  private readonly agents = new Set<string>();

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly snapshot = (): CallView => this.view;

  /** Begin, or go on with, the conversation. Never throws: what goes wrong is shown. */
  async start(wish: Wish): Promise<void> {
    const turn = ++this.turn;
    this.leave();
    this.set({ phase: "connecting", problem: null, delay: null });
    try {
      await this.join(turn, wish);
    } catch (error) {
      if (turn === this.turn) this.end(shown(error));
    }
  }

  stop(): void {
    if (underWay(this.view.phase)) this.end(null);
  }

  /** Forget what was said here; the next start shows another conversation. */
  clear(): void {
    this.turn++;
    this.leave();
    this.set(BEFORE);
  }

  /** Send a typed message; the agent answers it like a spoken one and repeats it in the transcript. */
  async type(text: string): Promise<boolean> {
    try {
      if (!this.view.room || !this.view.agentHere) throw new Error("nobody is there to read it");
      await this.view.room.localParticipant.sendText(text, { topic: "lk.chat" });
      this.dismiss("text-not-sent");
      return true;
    } catch {
      this.set({ problem: problem("text-not-sent") });
      return false;
    }
  }

  /** Let the browser play sound; call it from a click. */
  async unlockSound(): Promise<void> {
    await this.view.room?.startAudio().catch(() => undefined);
  }

  private set(change: Partial<CallView>): void {
    this.view = { ...this.view, ...change };
    for (const listener of this.listeners) listener();
  }

  private dismiss(...codes: Problem["code"][]): void {
    if (this.view.problem && codes.includes(this.view.problem.code)) this.set({ problem: null });
  }

  private async join(turn: number, wish: Wish): Promise<void> {
    const microphone = await openMicrophone(() => {
      if (turn === this.turn) this.set({ problem: problem("microphone-lost") });
    });
    try {
      await this.enter(turn, wish, microphone);
    } catch (error) {
      microphone.stop();
      throw error;
    }
  }

  private async enter(turn: number, wish: Wish, microphone: LocalAudioTrack): Promise<void> {
    const { serverUrl, token } = await pass(wish);
    const room = new Room({ adaptiveStream: false, dynacast: false, reconnectPolicy: MENDING });
    this.follow(room, turn, wish);
    try {
      await room.connect(serverUrl, token);
      if (turn !== this.turn) throw new Error("stopped meanwhile");
      this.set({ room, soundBlocked: !room.canPlaybackAudio });
      this.awaitAgent();
      await room.localParticipant.publishTrack(microphone, { source: Track.Source.Microphone });
      this.look(room);
    } catch (error) {
      room.removeAllListeners();
      await room.disconnect();
      throw error instanceof Trouble ? error : new Trouble(problem("media-away"));
    }
    if (!room.canPlaybackAudio) await this.unlockSound();
  }

  /** Show what happens in a room for as long as it is the current one. */
  private follow(room: Room, turn: number, wish: Wish): void {
    const current = <Args extends unknown[]>(then: (...args: Args) => void) => {
      return (...args: Args) => {
        if (turn === this.turn) then(...args);
      };
    };
    const look = current(() => this.look(room));
    room
      .on(RoomEvent.ParticipantConnected, look)
      .on(RoomEvent.ParticipantAttributesChanged, look)
      .on(RoomEvent.Reconnecting, current(() => this.set({ phase: "reconnecting" })))
      .on(RoomEvent.SignalReconnecting, () => setTimeout(look, BLINK))
      .on(RoomEvent.Reconnected, look)
      .on(RoomEvent.ParticipantDisconnected, current((who: RemoteParticipant) => this.someoneLeft(room, who)))
      .on(RoomEvent.AudioPlaybackStatusChanged, current(() => this.set({ soundBlocked: !room.canPlaybackAudio })))
      .on(RoomEvent.Disconnected, current((reason?: DisconnectReason) => this.lineBroke(room, turn, wish, reason)));
    readRoomText(room, {
      words: current((identity, words) => {
        const role = this.agents.has(identity) ? "agent" : "user";
        const own = role === "agent" || identity === room.localParticipant.identity;
        const speaker = own ? null : (room.remoteParticipants.get(identity)?.name ?? "") || identity;
        this.set({ segments: withWords(this.view.segments, { ...words, role, speaker }) });
      }),
      record: current((record) => this.set({ delay: delayOf(record) ?? this.view.delay })),
      error: current((code, message) =>
        this.set({ problem: problem(code === "full" ? "full" : "agent-failed", { fix: message }) }),
      ),
    });
  }

  /** Take the phase from the line and the agent, if it is there. */
  private look(room: Room): void {
    if (room.state === ConnectionState.SignalReconnecting || room.state === ConnectionState.Reconnecting) {
      this.set({ phase: "reconnecting" });
      return;
    }
    for (const one of room.remoteParticipants.values()) {
      if (one.kind === ParticipantKind.AGENT) this.agents.add(one.identity);
    }
    const agent = agentIn(room);
    const state = agent && doing(agent);
    if (!state) {
      this.set({ agentHere: false });
      return;
    }
    clearTimeout(this.waiting);
    this.waiting = undefined;
    this.set({ phase: state, agentHere: true });
    this.dismiss("agent-away", "text-not-sent");
  }

  private awaitAgent(): void {
    if (this.waiting !== undefined) return;
    this.waiting = setTimeout(() => {
      this.waiting = undefined;
      if (!this.view.agentHere) this.set({ problem: problem("agent-away") });
    }, AGENT_PATIENCE);
  }

  private someoneLeft(room: Room, who: RemoteParticipant): void {
    if (who.kind !== ParticipantKind.AGENT || agentIn(room)) {
      this.look(room);
      return;
    }
    // The server sends a new one, which goes on where this one stopped.
    this.set({ phase: "reconnecting", agentHere: false, segments: withAllFinal(this.view.segments, "agent") });
    this.awaitAgent();
  }

  private lineBroke(room: Room, turn: number, wish: Wish, reason: DisconnectReason | undefined): void {
    // A room that never connected is the business of whoever tried.
    if (this.view.room !== room) return;
    const ended = reason === undefined ? undefined : FOR_GOOD[reason];
    if (ended) {
      this.end(ended);
      return;
    }
    const told = this.view.problem;
    this.leave();
    if (told?.code === "agent-failed") {
      this.end(told);
      return;
    }
    this.set({ phase: "reconnecting", segments: withAllFinal(this.view.segments, "agent") });
    void this.comeBack(turn, wish);
  }

  /** Join anew after the line broke: the same conversation in a room that is there now. */
  private async comeBack(turn: number, wish: Wish): Promise<void> {
    let last: unknown;
    for (const pause of COME_BACK) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (turn !== this.turn) return;
      try {
        await this.join(turn, wish);
        return;
      } catch (error) {
        last = error;
        if (turn !== this.turn) return;
        this.set({ phase: "reconnecting" });
      }
    }
    this.end(shown(last));
  }

  private end(why: Problem | null): void {
    this.turn++;
    this.leave();
    const segments = withAllFinal(withAllFinal(this.view.segments, "agent"), "user");
    this.set({ phase: "ended", problem: why, segments });
  }

  /** Leave the room, if there is one, and give the microphone back. */
  private leave(): void {
    clearTimeout(this.waiting);
    this.waiting = undefined;
    const { room } = this.view;
    if (!room) return;
    this.set({ room: null, agentHere: false, soundBlocked: false });
    void room.disconnect();
  }
}

function shown(error: unknown): Problem {
  return error instanceof Trouble ? error.problem : problem("refused");
}
