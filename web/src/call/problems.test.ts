import assert from "node:assert/strict";
import { test } from "node:test";

import { microphoneProblem, refusal } from "./problems.ts";

function named(name: string): Error {
  const error = new Error("no");
  error.name = name;
  return error;
}

test("a refused microphone, a missing one and a busy one are told apart", () => {
  assert.equal(microphoneProblem(named("NotAllowedError")).code, "microphone-refused");
  assert.equal(microphoneProblem(named("NotFoundError")).code, "no-microphone");
  assert.equal(microphoneProblem(named("NotReadableError")).code, "microphone-busy");
  assert.equal(microphoneProblem("?").code, "microphone-busy");
});

test("a full server says when to try again", () => {
  const full = refusal(503, "full", "Every place is taken.", "5", false, 1000);
  assert.equal(full.code, "full");
  assert.equal(full.retryAt, 6000);
});

test("a missing key is asked for, a wrong one is called wrong", () => {
  assert.equal(refusal(401, "unauthorized", "", null, false, 0).code, "key-needed");
  assert.equal(refusal(401, "unauthorized", "", null, true, 0).code, "key-unknown");
});

test("where the server names the fix, its words are shown", () => {
  const away = refusal(503, "unavailable", "The agent worker isn't running: python agent/main.py start", null, false, 0);
  assert.equal(away.code, "agent-away");
  assert.match(away.fix, /agent\/main\.py start/);
  assert.equal(away.retryAt, null);
});

test("an answer that isn't ours means that the server is away", () => {
  assert.equal(refusal(502, "", "", null, false, 0).code, "server-away");
});
