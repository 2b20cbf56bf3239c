import assert from "node:assert/strict";
import { test } from "node:test";

import { pauseBefore, PATIENCE } from "./coming_back.ts";
import { problem, worthTrying } from "./problems.ts";

test("the first attempts come quickly, later ones steadily", () => {
  const pauses = [0, 1, 2, 3, 4, 5, 20].map((attempt) => pauseBefore(attempt, 0, null, 0));
  assert.equal(pauses[0], 300);
  assert.ok(pauses.every((pause, at) => pause !== null && pause <= 5000 && (at === 0 || pause >= (pauses[at - 1] ?? 0))));
});

test("after a good while it gives up", () => {
  assert.notEqual(pauseBefore(30, PATIENCE - 1, null, 0), null);
  assert.equal(pauseBefore(30, PATIENCE + 1, null, 0), null);
});

test("a full server is asked again when it said so, within reason", () => {
  assert.equal(pauseBefore(0, 0, problem("full", { retryAt: 6000 }), 1000), 5000);
  assert.equal(pauseBefore(0, 0, problem("full", { retryAt: 600_000 }), 0), 15_000);
  assert.equal(pauseBefore(0, 0, problem("full", { retryAt: 10 }), 1000), 300);
});

test("what only the user can mend isn't tried again", () => {
  assert.equal(worthTrying(problem("microphone-refused")), false);
  assert.equal(worthTrying(problem("key-needed")), false);
  assert.equal(worthTrying(problem("server-away")), true);
  assert.equal(worthTrying(problem("full")), true);
});
