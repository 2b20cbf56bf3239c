/** Whether the window has room for two columns; styles/layout.css has the same width. */

import { useEffect, useState } from "react";

const WIDE = "(min-width: 56rem)";

export function useWide(): boolean {
  const [wide, setWide] = useState(() => window.matchMedia(WIDE).matches);
  useEffect(() => {
    const query = window.matchMedia(WIDE);
    const note = () => setWide(query.matches);
    query.addEventListener("change", note);
    return () => query.removeEventListener("change", note);
  }, []);
  return wide;
}
