// Drives Chromium through the page, one step a line: reads {"step", "with"} on standard input,
// prints one JSON answer a line. `main.rs` says what each answer must be.
//
// Usage: node page.mjs LOGIN_URL [SHOTS_DIRECTORY]

import { createInterface } from 'node:readline';
import { mkdir } from 'node:fs/promises';
import { chromium } from 'playwright-core';

const [login, shots] = process.argv.slice(2);

// Without these Chromium looks for its makers' hosts at every start.
const QUIET = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: QUIET });
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });

const seen = { requests: [], sockets: 0, bytes: 0, errors: [], loads: 0 };
page.on('request', (request) => seen.requests.push(request.url()));
page.on('websocket', () => seen.sockets++);
page.on('pageerror', (error) => seen.errors.push(String(error)));
page.on('load', () => seen.loads++);
page.on('requestfinished', async (request) => {
  const sizes = await request.sizes().catch(() => null);
  seen.bytes += sizes ? sizes.responseBodySize : 0;
});

const tile = (name, state) => page.locator(`[data-node="${name}"]${state ? `[data-state="${state}"]` : ''}`);
const shoot = async (name) => {
  if (!shots) return;
  await mkdir(shots, { recursive: true });
  await page.screenshot({ path: `${shots}/${name}.png` });
};
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** Whether the words in the tiles change by themselves within ten seconds. */
async function moves() {
  const words = () => page.locator('[data-node]').allInnerTexts();
  const before = JSON.stringify(await words());
  for (let second = 0; second < 10; second++) {
    await sleep(1);
    if (JSON.stringify(await words()) !== before) return true;
  }
  return false;
}

/** What the charts of the node page hold: how many there are, points in the fullest, gaps as [from, to]. */
async function charts() {
  return page.locator('[data-panel]').evaluateAll((panels) =>
    panels.map((panel) => ({
      points: Number(panel.dataset.points),
      to_ms: Number(panel.dataset.to),
      gaps: (panel.dataset.gaps ?? '')
        .split(' ')
        .filter(Boolean)
        .map((gap) => gap.split(':').map(Number)),
    })),
  );
}

async function open_node(name) {
  await page.goto(`${page.url().split('#')[0]}#/`);
  await tile(name).click();
  await page.locator('[data-panel]').first().waitFor({ timeout: 10_000 });
}

const steps = {
  async overview({ names }) {
    await page.goto(login);
    for (const name of names) await tile(name).waitFor({ timeout: 15_000 });
    const live = page.locator('[data-node][data-state="self"], [data-node][data-state="alive"]');
    for (let tries = 0; tries < 50 && (await live.count()) < names.length; tries++) await sleep(0.2);
    const moved = await moves();
    await shoot('overview');
    return { live: await live.count(), moved };
  },

  async requests({ seconds }) {
    const [loaded, first_load_bytes] = [seen.requests.length, seen.bytes];
    await sleep(seconds);
    return { http_after_load: seen.requests.length - loaded, sockets: seen.sockets, first_load_bytes };
  },

  async down({ name }) {
    await tile(name, 'down').waitFor({ timeout: 30_000 });
    await shoot('down');
    return { state: await tile(name).getAttribute('data-state') };
  },

  async node({ name, seconds }) {
    await open_node(name);
    await sleep(seconds);
    await shoot('node-down');
    const drawn = await charts();
    const fullest = drawn.reduce((a, b) => (b.points > a.points ? b : a), drawn[0]);
    const trailing_gap = fullest.gaps.some(([from, to]) => to >= fullest.to_ms - 3_000 && to - from > 3_000);
    return { charts: drawn.length, points: fullest.points, trailing_gap };
  },

  async gap({ name }) {
    await open_node(name);
    const closed = ({ gaps, to_ms }) => gaps.some(([from, to]) => to - from > 3_000 && to < to_ms - 3_000);
    let drawn = [];
    for (let second = 0; second < 30 && !drawn.some(closed); second++) {
      await sleep(1);
      drawn = await charts();
    }
    await shoot('gap');
    return { inner_gap: drawn.some(closed), charts: drawn };
  },

  async lost() {
    await page.goto(`${page.url().split('#')[0]}#/`);
    const banner = page.locator('[data-banner="lost"]');
    await banner.waitFor({ timeout: 45_000 });
    await shoot('lost');
    return { banner: await banner.innerText() };
  },

  async healed() {
    const banner = page.locator('[data-banner="lost"]');
    await banner.waitFor({ state: 'detached', timeout: 60_000 });
    const moved = await moves();
    await shoot('healed');
    return { banner: null, moved, reloads: seen.loads - 1, errors: seen.errors };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { step, with: arguments_ } = JSON.parse(line);
  let answer;
  try {
    answer = await steps[step](arguments_);
  } catch (error) {
    await shoot(`failed-${step}`);
    answer = { failed: String(error) };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
