import { describe, expect, test } from 'vitest';
import { decode, FrameError } from './frames';

describe('decode', () => {
  test('a tick carries ages and values, NaN becomes null, a node without data has no age', () => {
    const frame = bytes(
      '01 02 0300 00000000 000000000050b540', // now_ms 5456
      '0700 0000 e8030000 0000003f 0000c07f', // node 7, 1000 ms, 0.5, NaN
      '0800 0100 e02e0000 0000803f 00000000', // node 8, a summary of 12 s ago, 1, 0
      '0900 0000 ffffffff 0000803f 00000000', // node 9, never, 1, 0
    );
    expect(decode(frame)).toEqual({
      kind: 'tick',
      now_ms: 5456,
      nodes: [
        { index: 7, age_ms: 1000, by_summary: false, values: [0.5, null] },
        { index: 8, age_ms: 12_000, by_summary: true, values: [1, 0] },
        { index: 9, age_ms: null, by_summary: false, values: [1, 0] },
      ],
    });
  });

  test('columns align times and values after a header padded to eight bytes', () => {
    const header = { node: 3, from_ms: 0, to_ms: 2000, step_ms: 1000, n: 2, series: [series(4), series(9)] };
    const frame = columns(77, header, [1000, 2000, 0.25, Number.NaN, Number.POSITIVE_INFINITY, 7]);
    expect(decode(frame)).toEqual({
      kind: 'columns',
      request: 77,
      header,
      times: [1000, 2000],
      values: [
        [0.25, null],
        [null, 7],
      ],
    });
  });

  test('an empty answer is empty columns', () => {
    const header = { node: 3, from_ms: 0, to_ms: 2000, step_ms: 1000, n: 0, series: [series(4)] };
    expect(decode(columns(1, header, []))).toMatchObject({ times: [], values: [[]] });
  });

  test('a live row has one value per watched series', () => {
    const frame = bytes('03 00 0000 0a000000 0000000000408f40 000000000000f83f 000000000000f87f');
    expect(decode(frame)).toEqual({ kind: 'live', request: 10, at_ms: 1000, values: [1.5, null] });
  });

  test('an unknown kind is skipped', () => {
    expect(decode(bytes('7f 00 0000 00000000'))).toBeNull();
  });

  test.each([
    ['a header cut off', '01 02'],
    ['a tick shorter than its count', '01 02 0200 00000000 000000000050b540'],
    ['a tick longer than its count', '01 00 0000 00000000 000000000050b540 00'],
    ['columns whose header is cut off', '02 00 0000 01000000 ffff0000 00000000'],
    ['a live row of broken length', '03 00 0000 0a000000 0000000000408f40 0000'],
  ])('%s is refused', (_, hex) => {
    expect(() => decode(bytes(hex))).toThrow(FrameError);
  });
});

function bytes(...hex: string[]): ArrayBuffer {
  const digits = hex.join('').replaceAll(' ', '');
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)).buffer;
}

function series(index: number) {
  return { index, name: 'node_load1', labels: {}, unit: '', kind: 'gauge' };
}

function columns(request: number, header: object, body: number[]): ArrayBuffer {
  let text = JSON.stringify(header);
  while (text.length % 8 !== 0) text += ' ';
  const view = new DataView(new ArrayBuffer(16 + text.length + 8 * body.length));
  view.setUint8(0, 2);
  view.setUint32(4, request, true);
  view.setUint32(8, text.length, true);
  for (let i = 0; i < text.length; i += 1) view.setUint8(16 + i, text.charCodeAt(i));
  body.forEach((value, i) => {
    view.setFloat64(16 + text.length + 8 * i, value, true);
  });
  return view.buffer;
}
