/** The personalities to choose from, asked for again while the server is away. */

import { useCallback, useEffect, useState } from "react";

import { personalities, type Personality } from "../api.ts";
import { problem, type Problem, Trouble } from "../call/problems.ts";

const AGAIN = 3000;

interface Loaded {
  readonly list: readonly Personality[] | null;
  readonly problem: Problem | null;
  /** Ask once more, with the key that is kept by now. */
  readonly reload: () => void;
}

export function usePersonalities(): Loaded {
  const [attempt, setAttempt] = useState(0);
  const [list, setList] = useState<readonly Personality[] | null>(null);
  const [trouble, setTrouble] = useState<Problem | null>(null);

  useEffect(() => {
    let wanted = true;
    let later: ReturnType<typeof setTimeout> | undefined;
    personalities().then(
      (found) => {
        if (!wanted) return;
        setList(found);
        setTrouble(null);
      },
      (error: unknown) => {
        if (!wanted) return;
        const met = error instanceof Trouble ? error.problem : problem("server-away");
        setTrouble(met);
        if (met.code === "server-away") later = setTimeout(() => setAttempt((count) => count + 1), AGAIN);
      },
    );
    return () => {
      wanted = false;
      clearTimeout(later);
    };
  }, [attempt]);

  return { list, problem: trouble, reload: useCallback(() => setAttempt((count) => count + 1), []) };
}
