/** The page's calls to the token server; every refusal becomes a `Trouble` in words. */

import { problem, refusal, Trouble } from "./call/problems.ts";
import type { Chosen } from "./call/view.ts";
import { apiKey } from "./stored.ts";

const PATIENCE = 15_000;

export interface Personality {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly language: string;
}

export interface Wish {
  readonly session: string;
  readonly user: string;
  /** What others in the room are told the user is called; empty for nothing. */
  readonly name: string;
  readonly personality: Chosen | null;
}

export interface Pass {
  readonly serverUrl: string;
  readonly token: string;
}

export async function personalities(): Promise<readonly Personality[]> {
  const answer = await call<{ personalities: Personality[] }>("/api/personalities");
  return answer.personalities;
}

/**
 * A token for the conversation. The request is that of `TokenSource.endpoint`, which would hide why a server
 * refuses and when to come back.
 */
export async function pass(wish: Wish): Promise<Pass> {
  const attributes: Record<string, string> = { session_id: wish.session };
  if (wish.personality) attributes["personality"] = wish.personality.id;
  const answer = await call<{ server_url: string; participant_token: string }>("/api/token", {
    method: "POST",
    body: JSON.stringify({
      participant_identity: wish.user,
      participant_name: wish.name,
      participant_attributes: attributes,
    }),
  });
  return { serverUrl: answer.server_url, token: answer.participant_token };
}

async function call<Answer>(path: string, init: RequestInit = {}): Promise<Answer> {
  const key = apiKey();
  const headers = new Headers(init.headers);
  if (init.body) headers.set("Content-Type", "application/json");
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers, signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    throw new Trouble(problem("server-away"));
  }
  if (response.ok) return (await response.json()) as Answer;
  const { code, message } = await refusalIn(response);
  throw new Trouble(
    refusal(response.status, code, message, response.headers.get("Retry-After"), key !== null, Date.now()),
  );
}

async function refusalIn(response: Response): Promise<{ code: string; message: string }> {
  try {
    const body = (await response.json()) as { error?: { code?: unknown; message?: unknown } };
    return { code: String(body.error?.code ?? ""), message: String(body.error?.message ?? "") };
  } catch {
    return { code: "", message: "" };
  }
}
