/** The string between user and agent as an SVG path: 600 units wide, 120 high, at rest at 60. */

export type Side = "user" | "agent";

const WIDTH = 600;
const MIDDLE = 60;
const HIGHEST = 54;
const POINTS = 60;

/** Each strand's waves: how many on the string, how fast they travel, how high they are. */
const WAVES = [
  { count: 3.1, speed: 5.2, height: 1 },
  { count: 4.3, speed: -4.1, height: 0.72 },
  { count: 5.9, speed: 6.7, height: 0.5 },
] as const;

/**
 * One strand of one side's part of the string.
 *
 * @param side Whose: the user's end is the left one.
 * @param index Which of the three.
 * @param level How loud, 0 to 1.
 * @param time Seconds; the waves travel with it.
 */
export function strand(side: Side, index: number, level: number, time: number): string {
  if (level <= 0) return `M0 ${MIDDLE}H${WIDTH}`;
  const wave = WAVES[index % WAVES.length] ?? WAVES[0];
  let path = "";
  for (let point = 0; point <= POINTS; point++) {
    const along = point / POINTS;
    const far = side === "user" ? along : 1 - along;
    const swing = Math.sin(wave.count * 2 * Math.PI * far - wave.speed * time + index);
    const y = MIDDLE - HIGHEST * level * wave.height * belly(far) * swing;
    path += `${point === 0 ? "M" : "L"}${(along * WIDTH).toFixed(0)} ${y.toFixed(1)}`;
  }
  return path;
}

/** How far the string can swing there: fixed at both ends, widest a quarter along, still past the middle. */
function belly(far: number): number {
  const rise = Math.min(1, far / 0.22);
  const fall = Math.max(0, 1 - Math.max(0, far - 0.22) / 0.6);
  return Math.sin((rise * Math.PI) / 2) * fall * fall * (3 - 2 * fall);
}
