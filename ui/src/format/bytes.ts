// Sizes as people read them: memory and files in powers of 1,024, throughput in powers of 1,000.
//
// Three digits at most, a narrow no-break space before the unit, an en dash for what is not known.

/** Stands where a value is unknown. Never a zero. */
export const NONE = '–';

const SPACE = '\u202f';
const BINARY = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const DECIMAL = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** `1.5 GiB`. */
export function size(bytes: number | null | undefined): string {
  return scaled(bytes, 1024, BINARY, '');
}

/** `1.5 MB/s`. */
export function rate(bytes_per_second: number | null | undefined): string {
  return scaled(bytes_per_second, 1000, DECIMAL, '/s');
}

/** Three significant digits below 1,000; whole numbers stay whole. */
export function digits(value: number): string {
  const magnitude = Math.abs(value);
  if (Number.isInteger(value) || magnitude >= 99.95) return value.toFixed(0);
  return magnitude >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

function scaled(value: number | null | undefined, base: number, units: string[], per: string): string {
  if (value === null || value === undefined) return NONE;
  let left = value;
  let step = 0;
  // 999.5 would print as four digits of the smaller unit.
  while (Math.abs(left) >= (base === 1024 ? 1000 : 999.5) && step < units.length - 1) {
    left /= base;
    step += 1;
  }
  const text = step === 0 ? Math.round(left).toFixed(0) : digits(left);
  return `${text}${SPACE}${units[step]}${per}`;
}
