/** Light or dark: as the system has it, or as the user wants it here. */

import * as stored from "./stored.ts";

export type Theme = "system" | "light" | "dark";

const GROUND = { light: "#f5f1ea", dark: "#12161b" } as const;

export function chosenTheme(): Theme {
  const kept = stored.theme.get();
  return kept === "light" || kept === "dark" ? kept : "system";
}

export function chooseTheme(theme: Theme): void {
  stored.theme.set(theme === "system" ? null : theme);
  showTheme();
}

/** Put the choice on the page, and into the browser's own frame around it. */
export function showTheme(): void {
  const theme = chosenTheme();
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  for (const meta of document.querySelectorAll<HTMLMetaElement>("meta[name=theme-color]")) {
    const own = meta.media.includes("dark") ? "dark" : "light";
    meta.content = GROUND[theme === "system" ? own : theme];
  }
}
