/** A call: joins the conversation's room, follows what happens there, and comes back when the line breaks. */

import {
  ConnectionQuality,
  ConnectionState,
  DisconnectReason,
  type LocalAudioTrack,
  type Participant,
  ParticipantKind,
  type RemoteParticipant,
  Room,
  RoomEvent,
  Track,
} from "livekit-client";

import { pass, type Wish } from "../api.ts";
import { pauseBefore, waitOrOnline } from "./coming_back.ts";
import { Hearing } from "./hearing.ts";
import { MENDING } from "./mending.ts";
import { CallMicrophone } from "./microphone.ts";
import { problem, type Problem, Trouble, worthTrying } from "./problems.ts";
import { type Gate, gate, isOpen } from "./push_to_talk.ts";
import { readRoomText } from "./room_text.ts";
import { withAllFinal, withWords } from "./transcript.ts";
import { TypedMessages } from "./typed.ts";
import { agentIn, BEFORE, type CallView, type Chosen, doing, underWay } from "./view.ts";
import { recordOf, withRecord } from "./waterfall.ts";

/** Milliseconds after which a missing agent is told about; it may still come. */
const AGENT_PATIENCE = 10_000;

/** Milliseconds that the line may be silent before it is told: most gaps are over by then. */
const BLINK = 1000;

/** Milliseconds a connection must be poor before it is told. */
const POOR_FOR = 3000;

/** Ends of a call that nobody should undo on their own. */
const FOR_GOOD: Partial<Record<DisconnectReason, Problem>> = {
  [DisconnectReason.DUPLICATE_IDENTITY]: problem("continued-elsewhere"),
  [DisconnectReason.PARTICIPANT_REMOVED]: problem("removed"),
};

/** The devices that the user has chosen; null for the system's own. */
export interface Devices {
  readonly microphone: () => string | null;
  readonly speaker: () => string | null;
}

export class Call {
  private view: CallView;
  private readonly listeners = new Set<() => void>();
  private readonly devices: Devices;
  private readonly microphone: CallMicrophone;
  /** Counts starts and stops: what belongs to an earlier one has no say any more. */
  private turn = 0;
  private wish: Wish | null = null;
  private hearing: Hearing | null = null;
  private waiting: ReturnType<typeof setTimeout> | undefined;
  private poor: ReturnType<typeof setTimeout> | undefined;
  private closing: ReturnType<typeof setTimeout> | undefined;
  private readonly agents = new Set<string>();
  private readonly typed = new TypedMessages();

  constructor(devices: Devices, pushToTalk: boolean) {
    this.view = { ...BEFORE, gate: gate(pushToTalk) };
    this.devices = devices;
    this.microphone = new CallMicrophone({
      chosen: devices.microphone,
      tell: (what) => this.set({ problem: what }),
      found: () => this.dismiss("microphone-lost"),
    });
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly snapshot = (): CallView => this.view;

  /** Begin, or go on with, the conversation. Never throws: what goes wrong is shown. */
  async start(wish: Wish): Promise<void> {
    const turn = ++this.turn;
    this.wish = wish;
    this.leave();
    this.set({ phase: "connecting", problem: null, personality: wish.personality });
    this.gate((now) => gate(now.pushToTalk));
    try {
      await this.join(turn);
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
    this.hangUp();
    this.set({ ...BEFORE, gate: gate(this.view.gate.pushToTalk) });
  }

  /** Send a typed message; the agent answers it like a spoken one and repeats it in the transcript. */
  async type(text: string): Promise<boolean> {
    const { room, agentHere } = this.view;
    const agent = room && agentHere ? agentIn(room) : null;
    try {
      if (!room || !agent) throw new Error("nobody is there to read it");
      this.typed.sent(text, agent.identity);
      await room.localParticipant.sendText(text, { topic: "lk.chat" });
      this.dismiss("text-not-sent");
      return true;
    } catch {
      this.typed.forget(text);
      this.set({ problem: problem("text-not-sent") });
      return false;
    }
  }

  /** Have the agent go on as another personality, without a break. */
  async become(personality: Chosen): Promise<boolean> {
    const { room } = this.view;
    const agent = room && agentIn(room);
    try {
      if (!room || !agent || !this.wish) throw new Error("nobody is there to become someone else");
      await room.localParticipant.performRpc({
        destinationIdentity: agent.identity,
        method: "voice.personality",
        payload: JSON.stringify({ id: personality.id }),
      });
      // An agent that takes this one's place, and this page coming back, go on with the new one.
      this.wish = { ...this.wish, personality };
      this.set({ personality });
      this.dismiss("personality-kept");
      await room.localParticipant.setAttributes({ personality: personality.id }).catch(() => undefined);
      return true;
    } catch {
      this.set({ problem: problem("personality-kept") });
      return false;
    }
  }

  /** Mute, push to talk: see push_to_talk.ts. */
  gate(change: (now: Gate, at: number) => Gate): void {
    const at = performance.now();
    const next = change(this.view.gate, at);
    const open = underWay(this.view.phase) && isOpen(next, at);
    clearTimeout(this.closing);
    if (open && next.pushToTalk && !next.held.length) {
      this.closing = setTimeout(() => this.gate((now) => now), next.until - at + 1);
    }
    if (next === this.view.gate && open === this.view.open) return;
    this.set({ gate: next, open });
    void this.microphone.gate(open);
  }

  /** Go on with another microphone, null being the system's own; false where it can't be opened. */
  async switchMicrophone(device: string | null): Promise<boolean> {
    return this.microphone.switchTo(device);
  }

  /** Play through another speaker; false where that fails, and the system's own (null) is used then. */
  async switchSpeaker(device: string | null): Promise<boolean> {
    const { room } = this.view;
    if (!room) return true;
    try {
      await room.switchActiveDevice("audiooutput", device ?? "default");
      this.dismiss("speaker-failed");
      return true;
    } catch {
      this.set({ problem: problem("speaker-failed") });
      await room.switchActiveDevice("audiooutput", "default").catch(() => undefined);
      return false;
    }
  }

  /** Let the browser play sound; call it from a click. */
  async unlockSound(): Promise<void> {
    await this.view.room?.startAudio().catch(() => undefined);
  }

  /** Hide the problem: the user has read it. */
  dismissProblem(): void {
    this.set({ problem: null });
  }

  private set(change: Partial<CallView>): void {
    this.view = { ...this.view, ...change };
    for (const listener of this.listeners) listener();
  }

  private dismiss(...codes: Problem["code"][]): void {
    if (this.view.problem && codes.includes(this.view.problem.code)) this.set({ problem: null });
  }

  private async join(turn: number): Promise<void> {
    const microphone = await this.microphone.open();
    if (turn !== this.turn) {
      // Stopped while the browser asked; a call begun since has opened its own.
      if (!underWay(this.view.phase)) this.hangUp();
      return;
    }
    this.set({ microphone });
    await this.enter(turn, microphone);
  }

  private async enter(turn: number, microphone: LocalAudioTrack): Promise<void> {
    if (!this.wish) throw new Error("a call needs to know what for");
    const { serverUrl, token } = await pass(this.wish);
    const room = new Room({
      adaptiveStream: false,
      dynacast: false,
      reconnectPolicy: MENDING,
      stopLocalTrackOnUnpublish: false,
      ...(await this.audioOutput()),
    });
    const hearing = new Hearing(room);
    this.follow(room, turn, hearing);
    try {
      await room.connect(serverUrl, token);
      if (turn !== this.turn) throw new Error("stopped meanwhile");
      this.hearing = hearing;
      this.set({ room, soundBlocked: !room.canPlaybackAudio });
      this.awaitAgent();
      await room.localParticipant.publishTrack(microphone, { source: Track.Source.Microphone });
      this.look(room);
    } catch (error) {
      room.removeAllListeners();
      hearing.close();
      await room.disconnect(false);
      throw error instanceof Trouble ? error : new Trouble(problem("media-away"));
    }
    if (!room.canPlaybackAudio) await this.unlockSound();
  }

  /** The chosen speaker, where it is plugged in. */
  private async audioOutput(): Promise<{ audioOutput?: { deviceId: string } }> {
    const deviceId = this.devices.speaker();
    if (!deviceId) return {};
    const there = await Room.getLocalDevices("audiooutput", false).catch(() => []);
    return there.some((one) => one.deviceId === deviceId) ? { audioOutput: { deviceId } } : {};
  }

  /** Show what happens in a room for as long as it is the current one. */
  private follow(room: Room, turn: number, hearing: Hearing): void {
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
      .on(RoomEvent.ConnectionQualityChanged, current((quality, who) => this.noteQuality(quality, who)))
      .on(RoomEvent.Disconnected, current((reason?: DisconnectReason) => this.lineBroke(room, turn, reason)));
    readRoomText(room, {
      words: current((identity, words) => {
        const role = this.agents.has(identity) ? "agent" : "user";
        const speaker = role === "agent" ? (this.view.personality?.name ?? null) : nameOf(room, identity);
        if (role === "user" && words.final) this.typed.repeated(words.text);
        this.set({ segments: withWords(this.view.segments, { ...words, role, speaker }) });
      }),
      record: current((told) => {
        const record = recordOf(told);
        if (!record) return;
        hearing.record(record);
        this.set({ turns: withRecord(this.view.turns, record) });
      }),
      error: current((code, message) => {
        // Of a room that waits for its agent it is the places that are taken, else an engine of the agent's.
        const full = code === "full" && !this.view.agentHere;
        this.set({ problem: problem(full ? "full" : "agent-failed", { fix: message }) });
      }),
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
    this.hearing?.followAgent(agent.identity);
    this.set({ phase: state, agentHere: true });
    for (const text of this.typed.owedTo(agent.identity)) {
      room.localParticipant.sendText(text, { topic: "lk.chat" }).catch(() => this.set({ problem: problem("text-not-sent") }));
    }
    this.dismiss("agent-away", "text-not-sent", "server-away", "media-away", "full");
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

  private noteQuality(quality: ConnectionQuality, who: Participant): void {
    if (!who.isLocal) return;
    clearTimeout(this.poor);
    if (quality !== ConnectionQuality.Poor) {
      this.dismiss("connection-poor");
      return;
    }
    this.poor = setTimeout(() => {
      if (!this.view.problem) this.set({ problem: problem("connection-poor") });
    }, POOR_FOR);
  }

  private lineBroke(room: Room, turn: number, reason: DisconnectReason | undefined): void {
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
    void this.comeBack(turn);
  }

  /** Join anew after the line broke: the same conversation in a room that is there now. */
  private async comeBack(turn: number): Promise<void> {
    const since = performance.now();
    let last: Problem | null = null;
    for (let attempt = 0; ; attempt++) {
      const pause = pauseBefore(attempt, performance.now() - since, last, Date.now());
      if (pause === null) break;
      await waitOrOnline(pause);
      if (turn !== this.turn) return;
      try {
        await this.join(turn);
        if (last && this.view.problem === last) this.set({ problem: null });
        return;
      } catch (error) {
        if (turn !== this.turn) return;
        last = shown(error);
        if (!worthTrying(last)) break;
        // Why it takes so long; it goes on trying.
        this.set({ phase: "reconnecting", problem: last });
      }
    }
    this.end(last);
  }

  private end(why: Problem | null): void {
    this.turn++;
    this.leave();
    this.hangUp();
    const segments = withAllFinal(withAllFinal(this.view.segments, "agent"), "user");
    this.set({ phase: "ended", problem: why, segments, open: false });
  }

  /** Leave the room, if there is one; the microphone stays for the next one. */
  private leave(): void {
    for (const timer of [this.waiting, this.poor, this.closing]) clearTimeout(timer);
    this.waiting = undefined;
    this.hearing?.close();
    this.hearing = null;
    const { room } = this.view;
    if (!room) return;
    this.set({ room: null, agentHere: false, soundBlocked: false });
    void room.disconnect(false);
  }

  private hangUp(): void {
    this.typed.forget();
    this.microphone.close();
    this.set({ microphone: null });
  }
}

/** What somebody in a room is called; null for this page's user. */
function nameOf(room: Room, identity: string): string | null {
  if (identity === room.localParticipant.identity) return null;
  const name = room.remoteParticipants.get(identity)?.name;
  // Pages make up their users' identities; other clients choose them.
  return name || (identity.startsWith("visitor-") ? "Someone else" : identity);
}

function shown(error: unknown): Problem {
  return error instanceof Trouble ? error.problem : problem("refused");
}
