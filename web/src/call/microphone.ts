/** Opening the microphone, with its refusals in words. */

import { createLocalAudioTrack, isBrowserSupported, TrackEvent, type LocalAudioTrack } from "livekit-client";

import { microphoneProblem, problem, Trouble } from "./problems.ts";

/**
 * Open the microphone; the browser may ask the user first.
 *
 * @param onLost Called when the microphone goes away while it is in use.
 */
export async function openMicrophone(onLost: () => void): Promise<LocalAudioTrack> {
  if (!window.isSecureContext || !navigator.mediaDevices) throw new Trouble(problem("insecure-page"));
  if (!isBrowserSupported()) throw new Trouble(problem("browser-too-old"));
  try {
    const track = await createLocalAudioTrack({
      echoCancellation: true,
      noiseSuppression: true,
      autoGainControl: true,
    });
    track.on(TrackEvent.Ended, onLost);
    return track;
  } catch (error) {
    throw new Trouble(microphoneProblem(error));
  }
}
