package playground

// missingPage is what "/" says when this weft was built without the playground.
const missingPage = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Weft</title>
<style>
:root { color-scheme: light dark; --sheet: #faf8f4; --text: #26272c; --quiet: #6d6c71; --edge: #e6e1d7; --code: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --sheet: #17181c; --text: #ececef; --quiet: #a0a0a8; --edge: #33353d; --code: #202127; }
}
body { display: grid; place-items: center; min-height: 100vh; margin: 0; background: var(--sheet); color: var(--text);
  font: 16px/1.6 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 32rem; padding: 2rem; }
h1 { margin: 0 0 .75rem; font-size: 1.5rem; letter-spacing: -.02em; line-height: 1.3; }
p { margin: 0 0 1rem; color: var(--quiet); }
pre { margin: 0 0 1rem; padding: .9rem 1.1rem; border: 1px solid var(--edge); border-radius: 10px; background: var(--code);
  font: 14px/1.7 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .9em; color: var(--text); }
</style>
</head>
<body>
<main>
<h1>Weft is running. Its playground is not built yet.</h1>
<p>The server works: canvas-store clients can connect. To draw on this page, build it once (that needs Node and npm), then build weft again:</p>
<pre>make playground
go build -o bin/weft ./cmd/weft</pre>
<p>Start <code>weft serve --dev</code> anew, and reload.</p>
</main>
</body>
</html>
`
