// The playground in a real browser: two people draw on one page, and the server is restarted under
// them. `go test -run TestBrowser` in the folder above runs it; pictures go to ../screenshots.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'
import { Server } from './lib/server.mjs'

const screenshots = fileURLToPath(new URL('../screenshots/', import.meta.url))
mkdirSync(screenshots, { recursive: true })

const patience = 20_000

/** One person: a browser context of their own, so that they share nothing but the server. */
async function open(browser, url, name) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 700 }, colorScheme: 'light' })
  const page = await context.newPage()
  page.setDefaultTimeout(patience)
  page.errors = []
  page.on('pageerror', (err) => page.errors.push(err))
  await context.addInitScript((me) => {
    localStorage.setItem('weft.me', JSON.stringify(me))
  }, { name, colour: 1 })
  await page.goto(url)
  await badge(page, 'synced')
  return page
}

async function badge(page, state) {
  await page.locator(`[data-testid=badge][data-state=${state}]`).waitFor()
}

/** Draws a line with the pen and waits until the page has all of it acknowledged. */
async function draw(page, points) {
  await page.getByTestId('tool-pen').click()
  await page.mouse.move(...points[0])
  await page.mouse.down()
  for (const point of points.slice(1)) await page.mouse.move(...point, { steps: 8 })
  await page.mouse.up()
  await page.waitForFunction(() => window.weft.synced())
}

/** Waits until as many strokes are known, and the point is painted, as the one above it and to the right
 *  is not. */
async function sees(page, strokes, [x, y]) {
  await page.waitForFunction((n) => window.weft.strokes() === n, strokes)
  await page.waitForFunction(
    ([x, y]) => {
      const paper = document.querySelector('[data-testid=paper]')
      const scale = paper.width / paper.clientWidth
      const at = (x, y) => paper.getContext('2d').getImageData(x * scale, y * scale, 1, 1).data.join()
      return at(x, y) !== at(x + 40, y - 40)
    },
    [x, y],
  )
}

test('two people draw on one page, and a restart of the server does not part them', { timeout: 120_000 }, async (t) => {
  const server = await Server.start(t, ['--dev'])
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
  t.after(() => browser.close())

  const url = `${server.page}?room=browser-test`
  const ann = await open(browser, url, 'Ann')
  const bob = await open(browser, url, 'Bob')
  const everybody = [ann, bob]

  // Ann draws, Bob sees it, and sees where Ann points.
  await draw(ann, [[300, 200], [400, 300], [520, 220], [640, 340]])
  await sees(ann, 1, [350, 250])
  await sees(bob, 1, [350, 250])
  await bob.getByTestId('cursor').filter({ hasText: 'Ann' }).waitFor()
  assert.equal(await bob.getByTestId('cursor').count(), 1, 'Bob sees nobody else')

  // Bob draws, Ann sees it.
  await draw(bob, [[300, 500], [500, 430], [700, 520]])
  await sees(ann, 2, [400, 465])
  await ann.getByTestId('cursor').filter({ hasText: 'Bob' }).waitFor()
  await ann.screenshot({ path: `${screenshots}ann.png` })
  await bob.screenshot({ path: `${screenshots}bob.png` })

  // The server goes. Bob goes on drawing.
  await server.stop()
  for (const page of everybody) await badge(page, 'offline')
  await bob.getByTestId('tool-pen').click()
  await bob.mouse.move(200, 600)
  await bob.mouse.down()
  await bob.mouse.move(800, 600, { steps: 8 })
  await bob.mouse.up()
  await sees(bob, 3, [500, 600])
  await bob.screenshot({ path: `${screenshots}offline.png` })
  assert.equal(await ann.evaluate(() => window.weft.strokes()), 2)

  // It comes back, and so do they: with what was there, what was drawn meanwhile, and what follows.
  await server.start()
  for (const page of everybody) await badge(page, 'synced')
  await sees(ann, 3, [500, 600])
  await draw(ann, [[150, 150], [150, 450]])
  await sees(bob, 4, [150, 300])
  await bob.getByTestId('cursor').filter({ hasText: 'Ann' }).waitFor()
  await bob.screenshot({ path: `${screenshots}after-restart.png` })

  // Somebody who comes later sees it all.
  const late = await open(browser, url, 'Late')
  await sees(late, 4, [350, 250])
  await late.screenshot({ path: `${screenshots}late.png` })
  for (const page of [...everybody, late]) assert.deepEqual(page.errors, [])
})
