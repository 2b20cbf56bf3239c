/** Everything that can go wrong for the person talking, in words, with what to do about it. */

export type ProblemCode =
  | "insecure-page"
  | "browser-too-old"
  | "microphone-refused"
  | "no-microphone"
  | "microphone-busy"
  | "microphone-lost"
  | "microphone-switched"
  | "speaker-failed"
  | "connection-poor"
  | "server-away"
  | "media-away"
  | "agent-away"
  | "full"
  | "key-needed"
  | "key-unknown"
  | "continued-elsewhere"
  | "removed"
  | "refused"
  | "agent-failed"
  | "text-not-sent"
  | "personality-kept";

export interface Problem {
  readonly code: ProblemCode;
  /** What happened. */
  readonly title: string;
  /** What to do. */
  readonly fix: string;
  /** When trying again makes sense, in milliseconds since 1970; null where waiting doesn't help. */
  readonly retryAt: number | null;
}

/** Thrown by whatever meets a problem; caught in one place, which shows it. */
export class Trouble extends Error {
  readonly problem: Problem;

  constructor(met: Problem) {
    super(met.title);
    this.name = "Trouble";
    this.problem = met;
  }
}

const WORDS: Record<ProblemCode, readonly [title: string, fix: string]> = {
  "insecure-page": [
    "This page may not use your microphone.",
    "Browsers open it only to secure pages: use https://, or http://localhost on the machine that runs the agent.",
  ],
  "browser-too-old": ["This browser can't hold a call.", "Use a current Chrome, Edge, Firefox or Safari."],
  "microphone-refused": [
    "The microphone was refused.",
    "Allow it for this page (the icon beside the address), then start again.",
  ],
  "no-microphone": ["No microphone was found.", "Plug one in or switch it on, then start again."],
  "microphone-busy": [
    "The microphone can't be opened.",
    "Another program may be using it: close that program, then start again.",
  ],
  "microphone-lost": [
    "The microphone went away.",
    "Plug it in again, or choose another one in the sound settings. You can type meanwhile.",
  ],
  "microphone-switched": ["The microphone went away.", "Another one is used now."],
  "speaker-failed": [
    "This speaker can't be used.",
    "You hear the system's own instead. Check that it is plugged in, or choose another one in the sound settings.",
  ],
  "connection-poor": [
    "Your connection is poor.",
    "Words may get lost. Go nearer to the router, use a cable, or close what else loads the line.",
  ],
  "server-away": [
    "The server doesn't answer.",
    "Check that it is running and that you are connected to its network, then start again.",
  ],
  "media-away": [
    "The line for your voice can't be opened.",
    "The server answers, but its LiveKit doesn't: check that it is running and that its ports are open, then start again.",
  ],
  "agent-away": [
    "The agent didn't come.",
    "It joins by itself as soon as it can. If it stays away, check on the server that the agent worker is running.",
  ],
  full: ["Every place is taken.", "Someone has to finish first."],
  "key-needed": ["This server asks for a key.", "Enter the key that its owner gave you."],
  "key-unknown": ["The server doesn't know this key.", "Check it with the server's owner and enter it again."],
  "continued-elsewhere": [
    "This conversation goes on somewhere else.",
    "It was opened in another window or device. Start again to bring it back here.",
  ],
  removed: ["The server ended the call.", "Start again to go on where you stopped."],
  refused: ["The server refused the call.", "Start again; if it stays so, its log says more."],
  "agent-failed": ["The agent has a problem.", "Start again; if it stays so, the agent's log on the server says more."],
  "text-not-sent": ["The message wasn't sent.", "Send it again when the agent is back."],
  "personality-kept": ["The personality wasn't changed.", "Try again in a moment; the call goes on as it was."],
};

/** Problems that trying again doesn't solve: somebody has to do something first. */
const HOPELESS: ReadonlySet<ProblemCode> = new Set([
  "insecure-page",
  "browser-too-old",
  "microphone-refused",
  "no-microphone",
  "key-needed",
  "key-unknown",
]);

export function worthTrying(met: Problem): boolean {
  return !HOPELESS.has(met.code);
}

/** A problem in its own words; `fix` replaces what to do where the server said it better. */
export function problem(code: ProblemCode, more: { fix?: string | undefined; retryAt?: number } = {}): Problem {
  const [title, fix] = WORDS[code];
  return { code, title, fix: more.fix || fix, retryAt: more.retryAt ?? null };
}

/** What opening the microphone failed for. */
export function microphoneProblem(error: unknown): Problem {
  const name = error instanceof Error ? error.name : "";
  if (name === "NotAllowedError" || name === "PermissionDeniedError" || name === "SecurityError") {
    return problem("microphone-refused");
  }
  if (name === "NotFoundError" || name === "DevicesNotFoundError" || name === "OverconstrainedError") {
    return problem("no-microphone");
  }
  return problem("microphone-busy");
}

/**
 * What a refusal of the server means.
 *
 * @param retryAfter The header of that name, in seconds.
 */
export function refusal(
  status: number,
  code: string,
  message: string,
  retryAfter: string | null,
  keyWasSent: boolean,
  now: number,
): Problem {
  if (status === 401 || status === 403) return problem(keyWasSent ? "key-unknown" : "key-needed");
  const seconds = Number(retryAfter);
  const wait = retryAfter && Number.isFinite(seconds) && seconds > 0 ? { retryAt: now + seconds * 1000 } : {};
  if (code === "full") return problem("full", wait);
  if (code === "unavailable") return problem("agent-away", { fix: message, ...wait });
  if (!code && status >= 500) return problem("server-away", wait);
  return problem("refused", { fix: message || undefined, ...wait });
}
