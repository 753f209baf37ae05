// Which charts a node page shows, from the series a node has.
//
// Pure. Names are node_exporter's; what has no panel of its own gets one by name under "more", so
// nothing that is measured is out of reach. A line says which series it reads and how.

import type { Unit } from '../chart/axis';
import type { Stroke } from '../chart/chart';
import type { SeriesInfo } from '../gen/api';

export type Values = readonly (number | null)[];

export type Line = Stroke & {
  label: string;
  /** Indices of the series it reads, in the order in which `of` gets their values. */
  inputs: number[];
  of(values: Values): number | null;
};

export type Panel = { id: string; title: string; unit: Unit; lines: Line[]; is_more: boolean };

const PALETTE = [
  'series-1',
  'series-2',
  'series-3',
  'series-4',
  'series-5',
  'series-6',
  'series-7',
  'series-8',
];

/** Facts that never change while a machine is up: a chart of them says nothing. */
const CONSTANTS = /_info$|^node_boot_time_seconds$|^node_network_speed_bytes$|^node_filesystem_readonly$/;

/** Modes of a processor as they are piled up, lowest first. */
const MODES: [label: string, modes: string[], colour: string][] = [
  ['system', ['system'], 'series-4'],
  ['user', ['user'], 'series-1'],
  ['nice', ['nice'], 'series-3'],
  ['interrupts', ['irq', 'softirq'], 'series-5'],
  ['I/O wait', ['iowait'], 'series-2'],
  ['stolen', ['steal'], 'series-7'],
];

export function panels(all: readonly SeriesInfo[]): Panel[] {
  const left = new Set(all.filter((series) => !CONSTANTS.test(series.name)));
  const take = (name: string): SeriesInfo[] => {
    const found = [...left].filter((series) => series.name === name);
    for (const series of found) left.delete(series);
    return found;
  };
  const own = [
    ...cpu(take('node_cpu_seconds_total')),
    load(take),
    memory(take),
    mirrored(
      'network',
      'Network',
      take('node_network_receive_bytes_total'),
      take('node_network_transmit_bytes_total'),
    ),
    mirrored('disk', 'Disk', take('node_disk_read_bytes_total'), take('node_disk_written_bytes_total')),
    busy(take('node_disk_io_time_seconds_total')),
    filesystems(take),
    named(take, 'processes', 'Processes and threads', [
      ['node_processes_pids', 'processes'],
      ['node_processes_threads', 'threads'],
    ]),
    named(take, 'running', 'Running and blocked', [
      ['node_procs_running', 'running'],
      ['node_procs_blocked', 'blocked'],
    ]),
    tunnel(left),
    panel('peers', 'Round trip to peers', 'seconds', each_line(take('outlast_peer_rtt_seconds'))),
    panel('own', 'Outlast itself, CPU', 'share', each_line(take('process_cpu_seconds_total'))),
  ];
  return [...own.filter((panel) => panel.lines.length > 0), ...more([...left])];
}

function cpu(series: SeriesInfo[]): Panel[] {
  const cores = [...new Set(series.map((one) => one.labels.cpu ?? ''))].sort(by_number);
  const modes = MODES.map(([label, wanted, colour]): Line => {
    const inputs = series.filter((one) => wanted.includes(one.labels.mode ?? '')).map(index);
    return { label, colour, mode: 'pile', inputs, of: (values) => divided(sum(values), cores.length) };
  });
  const each = cores.map((core, i): Line => {
    const idle = series.filter(
      (one) => one.labels.cpu === core && /^(idle|iowait)$/.test(one.labels.mode ?? ''),
    );
    return { label: `core ${core}`, colour: tint(i), mode: 'line', inputs: idle.map(index), of: rest_of_one };
  });
  return [
    panel('cpu', 'CPU', 'ratio', modes.filter(reads)),
    panel('cores', 'CPU per core, busy', 'ratio', each.filter(reads)),
  ];
}

function load(take: (name: string) => SeriesInfo[]): Panel {
  const lines = ['1', '5', '15'].flatMap((minutes, i) =>
    take(`node_load${minutes}`).map((series) =>
      single(series, `${minutes} min`, ['series-1', 'series-3', 'series-5'][i]),
    ),
  );
  return panel('load', 'Load', 'plain', lines);
}

function memory(take: (name: string) => SeriesInfo[]): Panel {
  const find = (name: string) => take(`node_memory_${name}_bytes`).map(index);
  const [total, free, buffers, cached] = ['MemTotal', 'MemFree', 'Buffers', 'Cached'].map(find);
  const swap = [...find('SwapTotal'), ...find('SwapFree')];
  const parts: Line[] = [];
  if (total?.length && free?.length) {
    const inputs = [...total, ...free, ...(buffers ?? []), ...(cached ?? [])];
    parts.push({ label: 'used', colour: 'series-1', mode: 'pile', inputs, of: difference });
  }
  if (buffers?.length) parts.push(plain_line('buffers', 'series-5', 'pile', buffers));
  if (cached?.length) parts.push(plain_line('cached', 'series-3', 'pile', cached));
  if (swap.length === 2) {
    parts.push({ label: 'swap used', colour: 'series-4', mode: 'line', inputs: swap, of: difference });
  }
  if (total?.length) parts.push({ ...plain_line('total', 'dim', 'line', total), dashed: true });
  return panel('memory', 'Memory', 'bytes', parts);
}

/** What comes in stands above zero, what goes out hangs below it; one colour a device. */
function mirrored(id: string, title: string, inward: SeriesInfo[], outward: SeriesInfo[]): Panel {
  const [up, down] = id === 'disk' ? ['read', 'written'] : ['in', 'out'];
  const devices = [...new Set([...inward, ...outward].map(device))].sort(by_number);
  const lines = devices.flatMap((name, i) => [
    ...inward.filter((one) => device(one) === name).map((one) => single(one, `${name} ${up}`, tint(i))),
    ...outward
      .filter((one) => device(one) === name)
      .map((one): Line => ({ ...single(one, `${name} ${down}`, tint(i)), mode: 'mirror' })),
  ]);
  return panel(id, `${title}, ${up} above and ${down} below`, 'bytes/s', lines);
}

function busy(series: SeriesInfo[]): Panel {
  const lines = series.map((one, i) => single(one, device(one), tint(i)));
  return panel('busy', 'Disk busy', 'ratio', lines);
}

function filesystems(take: (name: string) => SeriesInfo[]): Panel {
  const sizes = take('node_filesystem_size_bytes');
  const available = take('node_filesystem_avail_bytes');
  const lines = sizes.flatMap((size, i): Line[] => {
    const left = available.find((one) => one.labels.mountpoint === size.labels.mountpoint);
    if (left === undefined) return [];
    const label = size.labels.mountpoint ?? '';
    return [{ label, colour: tint(i), mode: 'line', inputs: [size.index, left.index], of: used_share }];
  });
  return panel('filesystems', 'File systems, used', 'ratio', lines);
}

function named(
  take: (name: string) => SeriesInfo[],
  id: string,
  title: string,
  names: [name: string, label: string][],
): Panel {
  const lines = names.flatMap(([name, label], i) => take(name).map((one) => single(one, label, tint(i))));
  return panel(id, title, 'count', lines);
}

/** Everything the tunnels count in bytes; sent hangs below zero. */
function tunnel(left: Set<SeriesInfo>): Panel {
  const found = [...left].filter(
    (one) => one.name.startsWith('outlast_') && /^bytes/.test(one.unit) && one.kind === 'counter',
  );
  for (const one of found) left.delete(one);
  const lines = found.map((one, i): Line => {
    const is_sent = /transmit|sent|_tx/.test(one.name);
    const label = [one.labels.peer, is_sent ? 'sent' : 'received'].filter(Boolean).join(' ');
    return { ...single(one, label, tint(Math.floor(i / 2))), mode: is_sent ? 'mirror' : 'line' };
  });
  return panel('tunnel', 'Tunnels, received above and sent below', 'bytes/s', lines);
}

function more(left: SeriesInfo[]): Panel[] {
  const names = [...new Set(left.map((one) => one.name))].sort();
  return names.map((name) => {
    const series = left.filter((one) => one.name === name);
    return { ...panel(`more-${name}`, name, unit_of(series[0]), each_line(series)), is_more: true };
  });
}

function unit_of(series: SeriesInfo | undefined): Unit {
  const unit = series?.unit ?? '';
  if (unit === 'bytes' || unit === 'bytes/s' || unit === 'ratio' || unit === 'seconds') return unit;
  if (unit === 'seconds/s') return 'share';
  return series?.kind === 'counter' ? 'count/s' : 'count';
}

function panel(id: string, title: string, unit: Unit, lines: Line[]): Panel {
  return { id, title, unit, lines, is_more: false };
}

/** A line for each series, called by its labels. */
function each_line(series: SeriesInfo[]): Line[] {
  return series.map((one, i) => single(one, Object.values(one.labels).join(' ') || 'value', tint(i)));
}

function single(series: SeriesInfo, label: string, colour = 'series-1'): Line {
  return plain_line(label, colour, 'line', [series.index]);
}

function plain_line(label: string, colour: string, mode: Stroke['mode'], inputs: number[]): Line {
  return { label, colour, mode, inputs, of: ([value]) => value ?? null };
}

function tint(i: number): string {
  return PALETTE[i % PALETTE.length] ?? 'series-1';
}

function index(series: SeriesInfo): number {
  return series.index;
}

function device(series: SeriesInfo): string {
  return series.labels.device ?? '';
}

function reads(line: Line): boolean {
  return line.inputs.length > 0;
}

/** `2` before `10`. */
function by_number(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

/** Of those that are known; null when none is. */
function sum(values: Values): number | null {
  return values.reduce((total, value) => (value === null ? total : (total ?? 0) + value), null);
}

function divided(value: number | null, by: number): number | null {
  return value === null ? null : value / by;
}

/** What is left of one whole second. */
function rest_of_one(values: Values): number | null {
  const taken = sum(values);
  return taken === null ? null : Math.min(1, Math.max(0, 1 - taken));
}

/** The first less all others; null unless all are known. */
function difference(values: Values): number | null {
  const [first, ...others] = values;
  if (first == null || others.includes(null)) return null;
  return Math.max(0, first - (sum(others) ?? 0));
}

function used_share([size, available]: Values): number | null {
  return size == null || available == null || size <= 0 ? null : Math.max(0, 1 - available / size);
}
