// How the page is built: one script, one style sheet, a gzip form beside each text file.
//
// The build fails when the first load grows past its budget, so nobody has to remember it.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { constants, gzipSync } from 'node:zlib';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

/** Everything the browser fetches to show the first chart, compressed. */
const FIRST_LOAD_LIMIT_BYTES = 100 * 1024;
/** Requests after the HTML: the script and the style sheet. */
const REQUEST_LIMIT = 2;

/** Writes `FILE.gz` where that is smaller, and holds the first load to its budget. */
function compress(): Plugin {
  let directory = '';
  return {
    name: 'compress',
    apply: 'build',
    configResolved(config) {
      directory = join(config.root, config.build.outDir);
      if (config.build.outDir.startsWith('/')) directory = config.build.outDir;
    },
    closeBundle() {
      let first_load = 0;
      let requests = 0;
      for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
        if (!/\.(html|js|css|svg)$/.test(name)) continue;
        const plain = readFileSync(join(directory, name));
        const packed = gzipSync(plain, { level: constants.Z_BEST_COMPRESSION });
        if (packed.length < plain.length) writeFileSync(join(directory, `${name}.gz`), packed);
        first_load += Math.min(packed.length, plain.length);
        if (/\.(js|css)$/.test(name)) requests += 1;
      }
      if (first_load > FIRST_LOAD_LIMIT_BYTES) {
        this.error(`first load of ${first_load} B exceeds the limit of ${FIRST_LOAD_LIMIT_BYTES} B`);
      }
      if (requests > REQUEST_LIMIT) {
        this.error(`${requests} requests after the HTML exceed the limit of ${REQUEST_LIMIT}`);
      }
    },
  };
}

// Wall-clock formats are tested in one zone, whatever the machine's.
if (process.env.VITEST) process.env.TZ = 'UTC';

export default defineConfig({
  plugins: [svelte({ configFile: false, compilerOptions: { runes: true } }), compress()],
  build: {
    target: 'es2022',
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    emptyOutDir: true,
  },
});
