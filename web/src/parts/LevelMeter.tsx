/** How loud a microphone is, moving with it; its value is there for screen readers to ask, not told by itself. */

import { createAudioAnalyser, type LocalAudioTrack } from "livekit-client";
import { useEffect, useRef } from "react";

import { levelOf } from "../call/level.ts";

/** Times a second: enough to follow speech, little enough for a phone. */
const RATE = 20;

export function LevelMeter({ track, label }: { track: LocalAudioTrack | null; label: string }) {
  const box = useRef<HTMLDivElement>(null);

  useEffect(() => {
    const element = box.current;
    const meter = element?.querySelector("meter");
    if (!track || !element || !meter) return undefined;
    let stop = () => {};
    const follow = () => {
      stop();
      const { analyser, cleanup } = createAudioAnalyser(track, { fftSize: 1024 });
      const samples = new Float32Array(analyser.fftSize);
      const timer = setInterval(() => {
        analyser.getFloatTimeDomainData(samples);
        const level = levelOf(samples);
        element.style.setProperty("--level", level.toFixed(3));
        meter.value = Math.round(level * 100);
      }, 1000 / RATE);
      stop = () => {
        clearInterval(timer);
        void cleanup();
      };
    };
    follow();
    // A switched device is another sound under the same track.
    track.on("restarted", follow);
    return () => {
      track.off("restarted", follow);
      stop();
    };
  }, [track]);

  return (
    <div ref={box} className="meter">
      <meter className="unseen" data-testid="meter" aria-label={label} min={0} max={100} />
      <span aria-hidden="true" />
    </div>
  );
}
