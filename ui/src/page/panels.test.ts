import { expect, test } from 'vitest';
import type { SeriesInfo } from '../gen/api';
import { panels } from './panels';

let next = 0;
function series(name: string, labels: Record<string, string> = {}, unit = ''): SeriesInfo {
  next += 1;
  return { index: next, name, labels, unit, kind: name.endsWith('_total') ? 'counter' : 'gauge' };
}

function panel(all: SeriesInfo[], id: string) {
  const found = panels(all).find((one) => one.id === id);
  if (found === undefined) throw new Error(`no panel ${id}`);
  return found;
}

test('processor modes are means over the cores', () => {
  const all = ['0', '1'].flatMap((cpu) =>
    ['idle', 'user', 'softirq', 'irq'].map((mode) => series('node_cpu_seconds_total', { cpu, mode })),
  );
  const cpu = panel(all, 'cpu');
  expect(cpu.lines.map((line) => line.label)).toEqual(['user', 'interrupts']);
  expect(cpu.lines[0]?.of([0.5, 1])).toBe(0.75);
  expect(cpu.lines[0]?.of([null, null])).toBeNull();
  const cores = panel(all, 'cores');
  expect(cores.lines.map((line) => line.label)).toEqual(['core 0', 'core 1']);
  expect(cores.lines[1]?.of([0.9])).toBeCloseTo(0.1);
});

test('memory in use is what is neither free nor cache', () => {
  const all = ['MemTotal', 'MemFree', 'Buffers', 'Cached'].map((name) => series(`node_memory_${name}_bytes`));
  const used = panel(all, 'memory').lines[0];
  expect(used?.inputs).toEqual(all.map((one) => one.index));
  expect(used?.of([100, 20, 5, 30])).toBe(45);
  expect(used?.of([100, null, 5, 30])).toBeNull();
});

test('what an interface sends hangs below zero in the colour of what it receives', () => {
  const all = [
    series('node_network_receive_bytes_total', { device: 'eth0' }),
    series('node_network_transmit_bytes_total', { device: 'eth0' }),
  ];
  const lines = panel(all, 'network').lines;
  expect(lines.map((line) => [line.label, line.mode])).toEqual([
    ['eth0 in', 'line'],
    ['eth0 out', 'mirror'],
  ]);
  expect(lines[0]?.colour).toBe(lines[1]?.colour);
});

test('a file system without its free space has no line, an empty one no share', () => {
  const all = [
    series('node_filesystem_size_bytes', { mountpoint: '/' }),
    series('node_filesystem_avail_bytes', { mountpoint: '/' }),
    series('node_filesystem_size_bytes', { mountpoint: '/boot' }),
  ];
  const lines = panel(all, 'filesystems').lines;
  expect(lines.map((line) => line.label)).toEqual(['/']);
  expect(lines[0]?.of([100, 25])).toBe(0.75);
  expect(lines[0]?.of([0, 0])).toBeNull();
});

test('tunnels show what is received above what is sent', () => {
  const all = [
    series('outlast_tunnel_transmit_bytes_total', {}, 'bytes/s'),
    series('outlast_tunnel_receive_bytes_total', {}, 'bytes/s'),
  ];
  expect(panel(all, 'tunnel').lines.map((line) => [line.label, line.mode])).toEqual([
    ['sent', 'mirror'],
    ['received', 'line'],
  ]);
});

test('what has no panel of its own is listed by name', () => {
  const all = [series('node_context_switches_total'), series('node_load1'), series('node_os_info')];
  expect(panels(all).map((one) => [one.id, one.unit, one.is_more])).toEqual([
    ['load', 'plain', false],
    ['more-node_context_switches_total', 'count/s', true],
  ]);
});
