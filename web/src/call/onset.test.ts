import assert from "node:assert/strict";
import { test } from "node:test";

import { OnsetDetector, SILENCE, type SoundEvent } from "./onset.ts";

const RATE = 48_000;

function silence(seconds: number): Float32Array {
  return new Float32Array(Math.round(seconds * RATE));
}

function tone(seconds: number, level = 0.2): Float32Array {
  return Float32Array.from({ length: Math.round(seconds * RATE) }, (_, at) => level * Math.sin((at * 2 * Math.PI) / 60));
}

/** What is found in these pieces, fed as the audio thread does: 128 samples at a time. */
function found(...pieces: Float32Array[]): readonly SoundEvent[] {
  const all = Float32Array.from(pieces.flatMap((piece) => [...piece]));
  const detector = new OnsetDetector(RATE);
  const events: SoundEvent[] = [];
  for (let at = 0; at < all.length; at += 128) events.push(...detector.push(all.subarray(at, at + 128), at));
  return events;
}

function within(actual: number | undefined, seconds: number, tolerance = 0.006): void {
  assert.ok(actual !== undefined && Math.abs(actual / RATE - seconds) <= tolerance, `${(actual ?? -1) / RATE} s`);
}

test("a sound's first sample and its end are found", () => {
  const events = found(silence(0.5), tone(0.4), silence(0.5));
  assert.deepEqual(events.map((event) => event.kind), ["sound", "silence"]);
  within(events[0]?.frame, 0.5, 0.001);
  within(events[1]?.frame, 0.9);
});

test("gaps between words are part of a sound, longer ones end it", () => {
  const events = found(tone(0.2), silence(SILENCE / 2), tone(0.2), silence(SILENCE * 2), tone(0.2));
  assert.deepEqual(events.map((event) => event.kind), ["sound", "silence", "sound"]);
  within(events[2]?.frame, 0.4 + SILENCE * 2.5);
});

test("line noise and a click are no sound", () => {
  assert.deepEqual(found(tone(1, 0.003)), []);
  assert.deepEqual(found(silence(0.2), tone(0.002, 0.9), silence(0.3)), []);
});
