/** Goes through system, light and dark, and says where it is. */

import { useState } from "react";

import { chooseTheme, chosenTheme, type Theme } from "../theme.ts";
import { Icon } from "./Icon.tsx";

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const WORDS: Record<Theme, string> = { system: "as the system", light: "light", dark: "dark" };

export function ThemeButton() {
  const [theme, setTheme] = useState(chosenTheme);
  const next = () => {
    chooseTheme(NEXT[theme]);
    setTheme(NEXT[theme]);
  };
  const words = `Colours: ${WORDS[theme]}. Change to ${WORDS[NEXT[theme]]}`;
  return (
    <button type="button" className="round" data-testid="theme" data-theme={theme} aria-label={words} title={words} onClick={next}>
      <Icon name={theme} />
    </button>
  );
}
