import assert from "node:assert/strict";
import { test } from "node:test";

import { heardAt } from "./playout.ts";

test("the loudspeaker's own stamp tells when a sound is heard", () => {
  const output = {
    currentTime: 10,
    outputLatency: 0.02,
    getOutputTimestamp: () => ({ contextTime: 9.95, performanceTime: 5000 }),
  };
  assert.equal(Math.round(heardAt(output, 9.99, 5001)), 5040);
});

test("without a stamp the latency the context admits to is added", () => {
  assert.equal(Math.round(heardAt({ currentTime: 10, outputLatency: 0.03 }, 9.98, 5000)), 5010);
  const silent = { currentTime: 10, baseLatency: 0.01, getOutputTimestamp: () => ({ contextTime: 0, performanceTime: 0 }) };
  assert.equal(heardAt(silent, 10, 5000), 5010);
});

test("a stamp that can't be true is not believed", () => {
  const output = {
    currentTime: 10,
    outputLatency: 0.02,
    getOutputTimestamp: () => ({ contextTime: 2, performanceTime: 5000 }),
  };
  assert.equal(heardAt(output, 10, 5000), 5020);
});
