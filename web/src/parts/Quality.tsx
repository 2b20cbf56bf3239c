/** How good the user's connection is, as LiveKit judges it: in bars and in words. */

import { useConnectionQualityIndicator } from "@livekit/components-react";
import { ConnectionQuality, type Participant } from "livekit-client";

const SHOWN: Record<ConnectionQuality, readonly [bars: number, words: string]> = {
  [ConnectionQuality.Excellent]: [3, "excellent"],
  [ConnectionQuality.Good]: [2, "good"],
  [ConnectionQuality.Poor]: [1, "poor"],
  [ConnectionQuality.Lost]: [0, "lost"],
  [ConnectionQuality.Unknown]: [0, "being measured"],
};

export function Quality({ participant }: { participant: Participant }) {
  const { quality } = useConnectionQualityIndicator({ participant });
  const [bars, words] = SHOWN[quality];
  return (
    <span className="quality" data-testid="quality" data-quality={quality} title={`Connection: ${words}`}>
      <svg viewBox="0 0 20 20" aria-hidden="true">
        {[1, 2, 3].map((bar) => (
          <rect key={bar} data-on={bar <= bars} x={bar * 5 - 2.5} y={16 - bar * 4} width="3" height={bar * 4} rx="1.2" />
        ))}
      </svg>
      <span className={quality === ConnectionQuality.Unknown ? "wide" : ""}>
        <span className="wide">Connection </span>
        {words}
      </span>
    </span>
  );
}
