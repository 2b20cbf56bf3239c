/** Loudness as an ear takes it: decibels, from a quiet room to a voice close to the microphone. */

const QUIET = -60;
const LOUD = -12;

/**
 * Loudness of some sound.
 *
 * @param samples Mono, full scale 1.0.
 * @returns 0 for a quiet room's, 1 for a loud voice's.
 */
export function levelOf(samples: Float32Array): number {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / Math.max(1, samples.length);
  if (power <= 0) return 0;
  const decibels = 10 * Math.log10(power);
  return Math.min(1, Math.max(0, (decibels - QUIET) / (LOUD - QUIET)));
}

/** The next of a row of levels as a needle shows it: up at once, down gently. */
export function eased(shown: number, level: number): number {
  return level > shown ? shown + (level - shown) * 0.6 : shown + (level - shown) * 0.15;
}
