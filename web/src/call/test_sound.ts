/** Two soft notes, to hear whether a speaker is the right one. */

const NOTES = [523.25, 783.99] as const;
const LENGTH = 0.7;

/** @param speaker The browser's id; null for the system's own. Rejects where it can't be used. */
export async function playTestSound(speaker: string | null): Promise<void> {
  const context = new AudioContext();
  const element = new Audio();
  try {
    const out = context.createMediaStreamDestination();
    element.srcObject = out.stream;
    if (speaker && speaker !== "default") await element.setSinkId(speaker);
    await element.play();
    for (const [at, frequency] of NOTES.entries()) {
      const begin = context.currentTime + 0.05 + at * 0.18;
      const loudness = context.createGain();
      loudness.gain.setValueAtTime(0, begin);
      loudness.gain.linearRampToValueAtTime(0.2, begin + 0.02);
      loudness.gain.exponentialRampToValueAtTime(0.001, begin + 0.45);
      const note = context.createOscillator();
      note.frequency.value = frequency;
      note.connect(loudness).connect(out);
      note.start(begin);
      note.stop(begin + 0.5);
    }
    await new Promise((resolve) => setTimeout(resolve, LENGTH * 1000 + 200));
  } finally {
    element.srcObject = null;
    await context.close();
  }
}
