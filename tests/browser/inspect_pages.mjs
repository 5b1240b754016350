// Opens pages in headless Chromium and prints what a person would meet there, as one JSON object:
//   node inspect_pages.mjs CHROMIUM FOLDER PAGE.html…
// FOLDER gets a screenshot of each page in each view.
import { chromium } from 'playwright-core'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'

const VIEWS = [['light', 1200], ['dark', 1200], ['light', 400]]
const [executablePath, folder, ...files] = process.argv.slice(2)
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const profile = mkdtempSync(join(tmpdir(), 'chromium-'))
const args = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
]
// bypassCSP lets the test add axe-core; the page itself allows no script.
const browser = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args, bypassCSP: true })

async function inspect(file, scheme, width) {
  const page = await browser.newPage()
  const problems = [], requests = []
  page.on('console', message => problems.push(message.text()))
  page.on('pageerror', error => problems.push(String(error)))
  page.on('dialog', dialog => { problems.push(`dialog ${dialog.message()}`); dialog.dismiss() })
  page.on('request', request => requests.push(request.url()))
  await page.emulateMedia({ colorScheme: scheme })
  await page.setViewportSize({ width, height: 900 })
  const url = pathToFileURL(file).href
  await page.goto(url)
  await page.evaluate(() => document.querySelectorAll('details').forEach(details => { details.open = true }))
  const facts = await page.evaluate(() => ({
    overflow: document.documentElement.scrollWidth - window.innerWidth,
    broken: [...document.images].filter(image => !image.naturalWidth).length,
    images: document.images.length,
    charts: document.querySelectorAll('svg.chart').length,
    scripts: document.scripts.length,
    headings: [...document.querySelectorAll('h1, h2, h3')].map(heading => heading.textContent),
    text: document.body.innerText,
  }))
  await page.screenshot({ path: join(folder, `${basename(file, '.html')}-${scheme}-${width}.png`), fullPage: true })
  await page.evaluate(axe)
  const { violations } = await page.evaluate(() => window.axe.run())
  await page.close()
  return {
    file: basename(file), scheme, width, problems, ...facts,
    requests: requests.filter(address => address !== url && !address.startsWith('data:')),
    violations: violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map(node => node.html) })),
  }
}

try {
  const views = []
  for (const file of files) {
    for (const [scheme, width] of VIEWS) views.push(await inspect(file, scheme, width))
  }
  console.log(JSON.stringify({ views }))
} finally {
  await browser.close()
  rmSync(profile, { recursive: true, force: true })
}
