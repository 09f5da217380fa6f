import { defineConfig } from 'vite'

// File names carry no hash: Go embeds the folder and answers with an ETag, so a
// stale copy is never used and two builds of one source are the same bytes.
// `public/placeholder.txt` is copied into every build, so emptying `dist` first
// keeps the one file there that the repository needs.
export default defineConfig({
  base: './',
  build: {
    outDir: 'dist',
    emptyOutDir: true,
    target: 'es2023',
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    license: { fileName: 'licenses.md' },
    rolldownOptions: {
      output: {
        entryFileNames: 'playground.js',
        chunkFileNames: 'playground-[name].js',
        assetFileNames: 'playground[extname]',
      },
    },
  },
  server: { proxy: { '/ws': { target: 'ws://127.0.0.1:8080', ws: true } } },
})
