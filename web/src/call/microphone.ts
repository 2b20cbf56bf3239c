/** The user's microphone: opened with its refusals in words, switched, gated, and found again when it goes away. */

import { createLocalAudioTrack, isBrowserSupported, TrackEvent, type LocalAudioTrack } from "livekit-client";

import { microphoneProblem, problem, type Problem, Trouble } from "./problems.ts";

/** Milliseconds that LiveKit is given to go on with another microphone when the one in use is gone. */
const LIVEKITS_TURN = 2000;

const CLEANED = { echoCancellation: true, noiseSuppression: true, autoGainControl: true } as const;

/**
 * Open the microphone; the browser may ask the user first.
 *
 * @param device Whose, where it is there; else the system's default.
 */
export async function openMicrophone(device: string | null): Promise<LocalAudioTrack> {
  if (!window.isSecureContext || !navigator.mediaDevices) throw new Trouble(problem("insecure-page"));
  if (!isBrowserSupported()) throw new Trouble(problem("browser-too-old"));
  try {
    return await createLocalAudioTrack({ ...CLEANED, ...(device ? { deviceId: device } : {}) });
  } catch (error) {
    throw new Trouble(microphoneProblem(error));
  }
}

interface Around {
  /** Which microphone the user has chosen; null for the system's default. */
  readonly chosen: () => string | null;
  /** Something changed that the user should know. */
  readonly tell: (what: Problem) => void;
  /** The microphone works again. */
  readonly found: () => void;
}

/** The microphone of one call, kept open while the line comes and goes. */
export class CallMicrophone {
  private readonly around: Around;
  private wanted = true;
  private lost = false;
  track: LocalAudioTrack | null = null;

  constructor(around: Around) {
    this.around = around;
  }

  /** Open it, or give the one that is open. */
  async open(): Promise<LocalAudioTrack> {
    if (this.track?.mediaStreamTrack.readyState === "live") return this.track;
    this.close();
    const track = await openMicrophone(this.around.chosen());
    const meanwhile = this.track as LocalAudioTrack | null;
    if (meanwhile) {
      track.stop();
      return meanwhile;
    }
    this.track = track;
    track.on(TrackEvent.Ended, this.onEnded);
    navigator.mediaDevices.addEventListener("devicechange", this.onDevices);
    await this.apply();
    return track;
  }

  /** Whether what it picks up is sent. */
  async gate(open: boolean): Promise<void> {
    this.wanted = open;
    await this.apply();
  }

  /** Go on with another device, null being the system's own; false where it can't be opened. */
  async switchTo(device: string | null): Promise<boolean> {
    const { track } = this;
    if (!track) return true;
    try {
      await track.restartTrack({ ...CLEANED, ...(device ? { deviceId: { exact: device } } : {}) });
      this.regained();
      return true;
    } catch (error) {
      this.around.tell(microphoneProblem(error));
      // The one before is stopped already: take whatever there is.
      await this.recover();
      return false;
    }
  }

  close(): void {
    const { track } = this;
    this.track = null;
    this.lost = false;
    if (!track) return;
    navigator.mediaDevices.removeEventListener("devicechange", this.onDevices);
    track.off(TrackEvent.Ended, this.onEnded);
    track.stop();
  }

  private async apply(): Promise<void> {
    const { track } = this;
    if (!track || track.isMuted === !this.wanted) return;
    await (this.wanted ? track.unmute() : track.mute()).catch(() => undefined);
  }

  /** It was unplugged or taken away. LiveKit tries the default one; what came of it is told. */
  private readonly onEnded = (): void => {
    const { track } = this;
    const before = track?.mediaStreamTrack.label ?? "";
    setTimeout(() => {
      if (!track || this.track !== track) return;
      if (track.mediaStreamTrack.readyState !== "live") void this.recover();
      else this.tellSwitched(before, track.mediaStreamTrack.label);
    }, LIVEKITS_TURN);
  };

  /** Devices came or went: one that is needed may be among them. */
  private readonly onDevices = (): void => {
    if (this.lost) void this.recover();
  };

  private async recover(): Promise<void> {
    const { track } = this;
    if (!track) return;
    try {
      await track.restartTrack(CLEANED);
      if (this.track === track) this.regained();
    } catch {
      if (this.track !== track) return;
      this.lost = true;
      this.around.tell(problem("microphone-lost"));
    }
  }

  private regained(): void {
    this.lost = false;
    // LiveKit mutes a microphone that it couldn't get back.
    void this.apply();
    this.around.found();
  }

  private tellSwitched(before: string, now: string): void {
    void this.apply();
    this.around.found();
    const fix = `${now || "Another microphone"} is used now. Choose another one in the sound settings.`;
    if (before !== now) this.around.tell(problem("microphone-switched", { fix }));
  }
}
