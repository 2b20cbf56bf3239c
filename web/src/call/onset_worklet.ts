/** The audio thread's part: tells the page when what it plays begins to sound and when it has fallen silent. */

import { OnsetDetector } from "./onset.ts";

/** What the audio thread offers; TypeScript's DOM library doesn't describe it. */
declare const sampleRate: number;
declare const currentFrame: number;
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}

const NOTHING = new Float32Array(128);

class OnsetProcessor extends AudioWorkletProcessor {
  private readonly detector = new OnsetDetector(sampleRate);

  process(inputs: Float32Array[][]): boolean {
    // A track that is gone has no channels; what it leaves is silence.
    for (const { kind, frame } of this.detector.push(inputs[0]?.[0] ?? NOTHING, currentFrame)) {
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port has none
      this.port.postMessage({ kind, at: frame / sampleRate });
    }
    return true;
  }
}

registerProcessor("onset", OnsetProcessor);
