/** Finds where sound begins and where it has ended in a stream of samples; runs in the audio thread. */

/** Loudness (RMS, full scale 1.0) from which it is sound: -46 dBFS, above what silence decodes to. */
export const AUDIBLE = 0.005;

/** Seconds over which loudness is taken, and windows in a row that make a beginning: a click is shorter. */
const WINDOW = 0.005;
const WINDOWS = 2;

/** Seconds of silence that end a sound: longer than the gaps within a word. */
export const SILENCE = 0.15;

export interface SoundEvent {
  /** `sound`: it began with this sample. `silence`: the last sound was over with this sample. */
  readonly kind: "sound" | "silence";
  /** Number of the sample, counted as `push` counts. */
  readonly frame: number;
}

export class OnsetDetector {
  private readonly window: number;
  private readonly patience: number;
  private sounding = false;
  /** First audible sample of the loud windows in a row, and how many they are. */
  private began = 0;
  private loud = 0;
  /** The sample after the last loud window. */
  private ended = 0;
  /** The window being filled. */
  private filled = 0;
  private power = 0;
  private firstAudible = -1;

  /** @param rate Samples a second. */
  constructor(rate: number) {
    this.window = Math.max(1, Math.round(rate * WINDOW));
    this.patience = Math.round(rate * SILENCE);
  }

  /**
   * Take in samples.
   *
   * @param samples Mono, full scale 1.0.
   * @param frame Number of the first one.
   * @returns What became known, in order; mostly nothing.
   */
  push(samples: Float32Array, frame: number): readonly SoundEvent[] {
    const events: SoundEvent[] = [];
    samples.forEach((sample, index) => {
      this.power += sample * sample;
      if (this.firstAudible < 0 && Math.abs(sample) > AUDIBLE) this.firstAudible = frame + index;
      if (++this.filled === this.window) this.windowFilled(frame + index + 1, events);
    });
    return events;
  }

  private windowFilled(end: number, events: SoundEvent[]): void {
    const isLoud = Math.sqrt(this.power / this.window) > AUDIBLE;
    if (isLoud) {
      if (this.loud++ === 0) this.began = this.firstAudible;
      this.ended = end;
      if (!this.sounding && this.loud >= WINDOWS) {
        this.sounding = true;
        events.push({ kind: "sound", frame: this.began });
      }
    } else {
      this.loud = 0;
      if (this.sounding && end - this.ended >= this.patience) {
        this.sounding = false;
        events.push({ kind: "silence", frame: this.ended });
      }
    }
    this.filled = 0;
    this.power = 0;
    this.firstAudible = -1;
  }
}
