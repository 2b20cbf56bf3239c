/**
 * Tells the agent when the first sound of each of its answers was heard (contract.md, `voice.heard`).
 *
 * The agent's track is followed in the audio thread as it is played; the agent's clock comes by `voice.clock`.
 * Where the browser has no audio thread of that kind, nothing is reported and nothing else suffers.
 */

import {
  ParticipantKind,
  type RemoteParticipant,
  type RemoteTrack,
  type Room,
  RoomEvent,
  Track,
} from "livekit-client";

import { AgentClock } from "./clock.ts";
import { HeardTurns } from "./heard.ts";
import workletUrl from "./onset_worklet.ts?worker&url";
import { heardAt, pageNow } from "./playout.ts";
import type { TurnRecord } from "./waterfall.ts";

/** Milliseconds between looks at the agent's clock. */
const LOOK_AGAIN = 30_000;

/** Looks, a second apart, at the clock of an agent that has just come. */
const ATTEMPTS = 8;

/** Seconds a beginning may be off by itself: the detector's window. */
const DETECTION = 0.005;

export class Hearing {
  private readonly room: Room;
  private readonly turns = new HeardTurns((turn, at) => void this.report(turn, at));
  private readonly clock = new AgentClock({
    ask: (asked) => this.askClock(asked),
    now: pageNow,
    sleep: (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000)),
  });
  private readonly timer: ReturnType<typeof setInterval>;
  private agent: string | null = null;
  /** The audio graph, once its thread knows its part; begun with the first track. */
  private graph: Promise<AudioContext | null> | null = null;
  private closed = false;
  private newest: MediaStreamTrack | null = null;
  private source: MediaStreamAudioSourceNode | null = null;

  constructor(room: Room) {
    this.room = room;
    this.timer = setInterval(() => void this.clock.look(), LOOK_AGAIN);
    room
      .on(RoomEvent.TrackSubscribed, this.onTrack)
      .on(RoomEvent.Reconnected, () => void this.clock.look())
      .on(RoomEvent.Disconnected, () => this.close());
  }

  /** This agent answers from now on. */
  followAgent(identity: string): void {
    if (this.agent === identity) return;
    this.agent = identity;
    this.turns.forget();
    this.clock.forget();
    void this.getToKnow(identity);
  }

  /** A turn's record came; where it lacks `heard`, its answer is about to be heard or just was. */
  record(record: TurnRecord): void {
    const clock = this.clock.offset();
    if (record.heard !== null || record.sent === null || record.speech_end === null || !clock) return;
    this.turns.sent(record.turn, record.speech_end + record.sent - clock.offset);
  }

  close(): void {
    clearInterval(this.timer);
    this.room.off(RoomEvent.TrackSubscribed, this.onTrack);
    this.source?.disconnect();
    this.source = null;
    this.closed = true;
    void this.graph?.then((context) => context?.close()).catch(() => undefined);
    this.graph = null;
  }

  /** An agent that has just come may not answer yet. */
  private async getToKnow(agent: string): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await this.clock.look();
      if (this.closed || this.agent !== agent || this.clock.offset()) return;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }

  private readonly onTrack = (track: RemoteTrack, _: unknown, participant: RemoteParticipant): void => {
    if (participant.kind !== ParticipantKind.AGENT || track.kind !== Track.Kind.Audio) return;
    void this.follow(track.mediaStreamTrack).catch(() => undefined);
  };

  private async follow(track: MediaStreamTrack): Promise<void> {
    this.source?.disconnect();
    this.source = null;
    this.turns.forget();
    this.newest = track;
    const context = await (this.graph ??= openGraph());
    if (!context || this.closed || this.newest !== track) return;
    const node = new AudioWorkletNode(context, "onset", { numberOfInputs: 1, numberOfOutputs: 1 });
    node.port.start();
    node.port.addEventListener("message", ({ data }: MessageEvent<{ kind: "sound" | "silence"; at: number }>) => {
      const at = (performance.timeOrigin + heardAt(context, data.at, performance.now())) / 1000;
      if (data.kind === "sound") this.turns.sound(at);
      else this.turns.silence(at);
    });
    this.source = context.createMediaStreamSource(new MediaStream([track]));
    // Its output is silence; only what leads to the loudspeaker is sure to run.
    this.source.connect(node).connect(context.destination);
  }

  private async askClock(asked: number): Promise<string> {
    if (!this.agent) throw new Error("there is no agent to ask");
    return this.room.localParticipant.performRpc({
      destinationIdentity: this.agent,
      method: "voice.clock",
      payload: JSON.stringify({ t0: asked }),
    });
  }

  private async report(turn: number, at: number): Promise<void> {
    const clock = this.clock.offset();
    if (!clock || !this.agent || !this.room.canPlaybackAudio) return;
    const told = { turn, at: at + clock.offset, error: clock.error + DETECTION };
    await this.room.localParticipant
      .sendText(JSON.stringify(told), { topic: "voice.heard", destinationIdentities: [this.agent] })
      .catch(() => undefined);
  }
}

/** Null where the browser has no audio thread for pages. */
async function openGraph(): Promise<AudioContext | null> {
  if (typeof AudioWorkletNode === "undefined") return null;
  const context = new AudioContext({ latencyHint: "interactive" });
  await context.audioWorklet.addModule(workletUrl);
  void context.resume();
  return context;
}
