import assert from "node:assert/strict";
import { test } from "node:test";

import { eased, levelOf } from "./level.ts";

function tone(level: number): Float32Array {
  return Float32Array.from({ length: 480 }, (_, at) => level * Math.SQRT2 * Math.sin((at * 2 * Math.PI) / 48));
}

test("silence is nothing, a close voice fills the meter, ordinary speech lies between", () => {
  assert.equal(levelOf(new Float32Array(480)), 0);
  assert.equal(levelOf(new Float32Array(0)), 0);
  assert.equal(levelOf(tone(0.5)), 1);
  const speech = levelOf(tone(0.05));
  assert.ok(speech > 0.5 && speech < 0.8, String(speech));
});

test("a needle rises faster than it falls", () => {
  assert.ok(eased(0, 1) > 1 - eased(1, 0));
  assert.equal(eased(0.5, 0.5), 0.5);
});
