import assert from "node:assert/strict";
import { test } from "node:test";

import { strand } from "./string_shape.ts";

/** Heights along a strand, from left to right. */
function heights(path: string): number[] {
  return [...path.matchAll(/[ML]\d+ (-?[\d.]+)/g)].map((found) => Math.abs(Number(found[1]) - 60));
}

test("at rest it is straight", () => {
  assert.equal(strand("user", 0, 0, 1), "M0 60H600");
});

test("it swings on the side of the one who speaks, is fixed at the ends and stays within its box", () => {
  for (const time of [0, 0.4, 1.3]) {
    const user = heights(strand("user", 0, 1, time));
    const agent = heights(strand("agent", 0, 1, time));
    const half = user.length / 2;
    assert.ok(Math.max(...user.slice(0, half)) > Math.max(...user.slice(half)));
    assert.ok(Math.max(...agent.slice(half)) > Math.max(...agent.slice(0, half)));
    for (const all of [user, agent]) {
      assert.equal(all[0], 0);
      assert.equal(all.at(-1), 0);
      assert.ok(Math.max(...all) <= 60);
    }
  }
});
