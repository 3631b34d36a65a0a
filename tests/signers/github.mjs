// Signs random texts with the npm package @octokit/webhooks-methods, asks it to verify
// sound and changed signatures, and writes both down; one JSON object a line.
import { pathToFileURL } from 'node:url';
// The package is an ES module and is not beside this file, so it is named by its own.
const file = process.cwd() + '/node_modules/@octokit/webhooks-methods/dist-node/index.js';
const { sign, verify } = await import(pathToFileURL(file));

// The generator of sign.mjs with another seed, so that the file can be made again.
let state = 20261122;
function random(below) {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % below;
}

// The package signs texts: any character but a half of a surrogate pair.
function character() {
  const kind = random(8);
  if (kind < 4) return String.fromCodePoint(random(0x80));
  if (kind < 6) return String.fromCodePoint(random(0x800));
  if (kind < 7) return String.fromCodePoint(random(0xd800));
  return String.fromCodePoint(0x10000 + random(0x100000));
}

function text(least, more) {
  return Array.from({ length: least + random(more) }, character).join('');
}

// What could be taken for the signature by a reader that is not strict.
const changes = [
  (s) => s,
  (s) => s.toUpperCase(),
  (s) => s.replace('sha256=', 'SHA256='),
  (s) => s.replace('sha256=', 'sha1='),
  (s) => s.replace('sha256=', ''),
  (s) => 'sha256=' + s.slice(7).toUpperCase(),
  (s) => s.slice(0, -1),
  (s) => s + '0',
  (s) => s + ' ',
  (s) => ' ' + s,
  (s) => s.slice(0, 7) + s.slice(7).split('').reverse().join(''),
  (s) => {
    const place = 7 + random(64);
    const other = '0123456789abcdef'[(parseInt(s[place], 16) + 1 + random(15)) % 16];
    return s.slice(0, place) + other + s.slice(place + 1);
  },
];

for (let n = 0; n < 240; n++) {
  // Printable at both ends: our reader drops the white space around a secret.
  const secret = 'k' + text(24, 41) + 'k';
  const body = text(1, 60);
  const signature = await sign(secret, body);
  const sent = changes[n % changes.length](signature);
  const verified = await verify(secret, body, sent);
  const encoded = (text) => Buffer.from(text).toString('base64');
  console.log(JSON.stringify({ secret: encoded(secret), body: encoded(body), signature, sent, verified }));
}
